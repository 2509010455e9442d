"""The vocabulary of prices, Chinese and English; every pattern is for folded text and linear."""

from __future__ import annotations

import re
from decimal import Decimal

from frontdesk.ai_proxy.answers.numerals import CHINESE, ENGLISH

_NUMERAL = rf"[0-9{CHINESE}]"
_SEPARATOR = r"[^\w\n,。!?;:、]"

# "5 0", "五 十 块", "5-0元": one number with gaps. What ends a clause is no gap, nor is a decimal point.
GAP = re.compile(rf"(?<={_NUMERAL})(?:\s|{_SEPARATOR}(?<!\.)|_){{1,3}}(?={_NUMERAL}(?![0-9])|[元块折毛%])")
# "f i f t y", "f-r-e-e".
SPELLED = re.compile(r"(?<![a-z0-9])[a-z](?:[^\w\n]{1,2}[a-z]){2,}(?![a-z0-9])")
CLAUSE_END = re.compile(r",(?![0-9]{3}(?![0-9]))|[。!?;\n~、]|\.(?![0-9])")

PRICEY = re.compile(
    r"价|钱|卖|售|成交|便宜|优惠|折|付|转账|转我|收你|收您|给你|给您|算你|算您|拿走|带走|拿去|最低|底线|预算|出给|包邮|改|毛爷爷|票子"
    r"|(?<![a-z])(?:price|sell|pay|deal|offer|cost|yours|take|lowest|buy|cheap|final|discount"
    r"|for you|done|only|ok|yuan|rmb)(?![a-z])"
)
MONEY_AFTER = re.compile(
    r"\s*(?:[来多几](?=[元块])|y(?![a-z0-9]))?(?:(?<=y)|元(?!旦|件|素|宵|气)钱?|块(?!屏|电|板"
    r"|表|手表|硬盘|显|布|地|砖|石|肥皂|香皂|玻璃|木|铁|肉|糖|皮|蛋糕|主板|内存)钱?"
    r"|¥|\$|€|£|rmb|cny|yuan|kuai|usd|bucks?|dollars?|人民币|个?大洋|软妹币|刀|美金|美元|钱|文(?!件|字|章|档)"
    r"|r(?![a-z0-9])|(?P<small>毛(?!病|巾|衣|重|孔|绒)|角(?!度|落|色))|(?P<cents>分钱))"
)
MONEY_BEFORE = re.compile(r"(?:¥|\$|€|£|rmb|cny|usd|人民币|(?<![a-z])[ry])\s*:?\s*$")
DISCOUNT_UNIT = re.compile(r"\s*折(?!叠|断|痕|旧|腾|返|射)")
PERCENT = re.compile(r"\s*(?:%|percent|per cent|个点)")
TENTHS = re.compile(r"\s*成(?!新|色|功|分|交|本|立|为|都|人|品|长|套|年|员|像)")
OF_AFTER = re.compile(r"\s*(?:的|of)")
FULL_BEFORE = re.compile(r"(?:满|每满|满足)\s*$")

_LESS = (
    r"便宜|立减|直减|直降|优惠|减|少|让利?|抹|砍|省|降|折让|下调|扣|抵|返"
    r"|discount of|discount|minus|less|save|knock|off"
)
_FILLER = r"(?:你|您|个|了|点|掉|去|它|给|再|多|大概|最多|约|整|价|of|you|by|another|up to|:|-)"
LESS_BEFORE = re.compile(rf"(?:{_LESS})(?:\s*{_FILLER}(?<!价))*\s*$")
LESS_STRONG = re.compile(rf"(?:便宜|立减|直减|直降|优惠|减|砍|抹|下调)(?:\s*{_FILLER}(?<!价))*\s*$")
LESS_AFTER = re.compile(
    r"\s*的?\s*(?:优惠|折扣|off(?![a-z])|discount|cheaper|less(?![a-z])|reduction|红包|优惠券|代金券|券|抵扣|返现|便宜)"
)
AGAIN = re.compile(r"再|又|另|额外|基础上|extra|further|another|then|on top|more")

_UNIT_CHINESE = (
    r"天|日(?!元)|号(?!卖|给)|月|年|周|星期|礼拜|小时|钟头|分钟|秒(?!拍|杀|发|出|卖)|点(?:钟|半|前|后|左右|多|之|以|发|到|开|[0-9])|岁"
    r"|英?寸|厘米|毫米|公分|公斤|千克|斤|克|升|毫升|码(?!头)|尺|平方|平米|度|°|伏|瓦|毫安|安时|赫兹|万?像素|核|线程|代|款|版"
    r"|档|级|楼|层|页|帧|倍|兆|转/|公里|千米|匹|人|位|次|遍|成新|成色|新|字|折叠|键|轴|孔|针|色|合一|栋|室|班|条评|周岁|后发|工作日|速|挡|座|缸|目"
)
_UNIT_LATIN = (
    r"(?:gb|g|tb|t|mb|mah|wh|hz|khz|mhz|ghz|cm|mm|km|kg|kwh|ml|inch(?:es)?|ft|mp|px"
    r"|fps|days?|hours?|hrs?|min(?:ute)?s?"
    r"|sec(?:ond)?s?|weeks?|months?|years?|yrs?|pcs|pieces?|units?|th|st|nd|rd|pro|max"
    r"|mini|plus|ultra|air|ti|super|se"
    r"|lite|gen|am|pm|left|bit|core|cores|people|times)(?![a-z])"
)
UNIT_AFTER = re.compile(
    rf"\s*(?:{_UNIT_CHINESE}|{_UNIT_LATIN})|[hvpxl](?![a-z0-9])|k(?:屏|显|视|高清|超清|蓝光|画质)"
)
_LABEL = (
    r"(?:身高|体重|尺码|码数|鞋码|腰围|胸围|臀围|衣长|肩宽|袖长|裤长|鞋长|内长|直径|净重|健康度?|电池|效率|循环"
    r"|充电次数|容量|内存|存储|型号|编号|尾号|单号|版本|系统|固件|年份|第|成色|库存|序列号|页数|房|门牌|邮编|分辨率"
    r"|刷新率|像素|功率|电压|电流|穿|蓝牙|(?<![a-z])(?:ios|android|miui|harmonyos|windows|macos|size|height|weight"
    r"|version|no\.|step|usb|type|wifi|bluetooth|photo|picture|page|chapter))"
    r"(?:是|为|大概|约|在|有|还有|还剩|到|:|-|\s){0,4}"
)
LABEL_BEFORE = re.compile(rf"{_LABEL}$")
MEASURE_AFTER = re.compile(
    r"\s*(?:个|件|台|只|双|套|本|部|条|份|张|盒|瓶|箱|包(?!邮)|支|根|片|块|颗|粒|把|辆|种|组|对|副|米|m(?![a-z])|枚|幅|卷|袋|桶|点|项"
    r"|步|句|单|家|头|门|样)"
)
# Things that are sold by the piece, and words for the price of several.
PIECES_AFTER = re.compile(
    r"\s*(?:个|件|台|只|双|套|本|部|条|份|瓶|盒|支|箱|包(?!邮)|pcs|pieces?|items?|of them)"
)
TOTAL = re.compile(
    r"一共|总共|打包|一起|合计|全部|加起来|都给你|(?<![a-z])(?:total|altogether|for all|both)(?![a-z])"
)
EACH = re.compile(r"每|一[个件台只双套本部条份瓶盒支]|单价|单件|/[个件台只]|each|apiece")
# What a buyer says when it is about the price.
HAGGLE = re.compile(r"多少|怎么卖|咋卖|刀|几块|报个|说个数|出吗|卖吗|how much|(?<![a-z])(?:ok|deal)(?![a-z])")
ASKS_AFTER = re.compile(
    r"\s*(?:$|行|可以|可|ok|卖|出|拿|吧|怎么样|咋样|如何|包|能|成|中|呗|要|给|好|走|带|收|吗"
    r"|deal|(?:is )?(?:fine|good))"
)
SLANG_UNITS = ("张", "米", "m", "块")
# Before a single Chinese numeral that is a price, and after one that is none: 就十, but 就一个, 那一起.
ASKED_BEFORE = re.compile(
    r"(?:给你|给您|算你|算您|最低|底价|价格?是?|就|出|卖|收|成交价|按|只要|要|改成|改到|降到|算|for|at|do)\s*:?\s*$"
)
COMPOUND_AFTER = re.compile(r"[些点样直起定般旦律手共口下次会边时致切方面种条千万百成个两半]|分(?!钱)")
ALONE_AFTER = re.compile(r"[交吧呗啊呀哦行可以好成卖拿走的了拍,\s]*")
IDIOM = re.compile(
    r"千万(?:别|不|要|记)|十分|百分百|万一|万万|一一|三三两两|七七八八|九九新|百百|千千|一五一十|十足|百搭|千里|万里"
)
# A name before a number, joined or not; a letter or word that is no currency.
MODEL_BEFORE = re.compile(
    r"[a-z]{2}-?$|(?<![a-z])[a-oqs-ux-z]-?$|(?<![a-z])(?:iphone|ipad|switch|ps|xbox|rtx|gtx|rx"
    r"|mate|mi|redmi|note|galaxy|ryzen|ddr|gen|pcie|core|hdmi|nova|find|reno"
    r"|watch|pixel|macbook|thinkpad|surface|air|pro|max|series|小米|红米|荣耀|华为|一加|索尼|尼康|佳能)\s*$"
)
LETTERS_AFTER = re.compile(r"(?!yuan|rmb|cny|kuai|usd|r(?![a-z]))[a-z]")

_GIFT = r"(?:您|你)?[^,。;]{0,6}(?:膜|壳|线|充电|袋|盒|贴|卡|礼|配件|耳塞|支架|底座|绳|运费险|包装|清洁|工具)"
_SERVICE = (
    r"(?:包邮|送货|配送|上门|试用|换新|维修|保修|质保"
    r"|咨询|更换|退换|退货|安装|调试|指导|教|检测|清洗|升级|验货|更新|后续)"
)
# Kind, value, pattern.
PHRASES: tuple[tuple[str, Decimal, re.Pattern[str]], ...] = (
    ("money", Decimal(50), re.compile(r"半百")),
    (
        "factor",
        Decimal("0.5"),
        re.compile(r"半价|对折|打个?对折|减半|腰斩|砍(?:掉|去)?一半|价格?的?一半|一半的?价|半卖"),
    ),
    (
        "factor",
        Decimal("0.5"),
        re.compile(
            r"半价|对折|减半|腰斩|对半|砍半|半卖|半个价|(?<!剩)(?<!用了)(?<!还有)(?<!前)(?<!后)(?<!多)一半(?!时间|以上|的时)"
            r"|(?:买|拍)[一1]\s*(?:送|发|得|赠)\s*[一二两12]"
            r"|(?<![a-z])half(?![a-z])(?! an? (?:year|hour|day|month)| (?:year|hour|day|month))"
        ),
    ),
    (
        "money",
        Decimal(0),
        re.compile(
            rf"免费(?!{_SERVICE})(?!(?:赠?送|给){_GIFT})|白送|白给|白拿|不要钱|不(?:要|收"
            rf"|用)(?:你|您)(?:的)?钱|不收钱|送了$|不用(?:给|付)钱|免单|分文不取|零元购"
            rf"|(?<![发寄派配运推])赠?送(?:给)?(?:你|您)(?!{_GIFT})(?!到|去|上|货|过|至|修|出)|不收费|一分(?:钱)?(?:都|也)?不要|分文不"
            rf"|(?<!sugar-)(?<!feel )(?<![a-z])free(?![a-z])(?! (?:shipping|delivery|to|of charge repair))"
            r"|(?<![a-z])on the house(?![a-z])|no charge"
        ),
    ),
    (
        "round",
        Decimal(0),
        re.compile(r"抹(?:个|掉|去)?零头?|去零头?|抹掉?零头|零头(?:就)?(?:不要|抹|免|去)|凑个?整"),
    ),
    (
        "vague",
        Decimal(0),
        re.compile(
            r"(?<!不)(?:可以|能|给你|给您|帮你|帮您|同意|答应)(?:再|给你|给您|适当|稍微|多)*"
            r"(?:便宜|优惠|打折|打个?折|让利|小刀|降价|刀|议价|少)"
            r"|友情价"
        ),
    ),
    (
        "unreadable",
        Decimal(0),
        re.compile(
            r"骨折价|跳楼价|白菜价|地板价|成本价|跌破|亏本(?:卖|给)|随便给"
            r"|你看着给|您看着给|你开价|你说多少就多少|name your price"
        ),
    ),
    (
        "unreadable",
        Decimal(0),
        re.compile(
            rf"(?<![a-z0-9])(?!{ENGLISH}|rmb|cny|yuan|kuai|usd|hkd|eur|the|this|that|in|of"
            rf"|chinese|pay|your|my|some|any|no|per|r(?![a-z]))[a-z]+\s*"
            r"(?:元(?!旦|件|素|宵)|块(?!屏|电|板|表|硬盘|钱包)|yuan|kuai)|√|[0-9]e[0-9]|除以|乘以?(?=[0-9零一二三四五六七八九半])"
            r"|(?<![a-z])(?:(?:yi|er|san|si|wu|liu|qi|ba|jiu|liang)\s?(?:shi|bai|qian"
            r"|wan)\s?)+(?:yi|er|san|si|wu|liu|qi|ba|jiu)?(?![a-z])"
            r"|次方|[两2三3]位数|(?<![0-9])[0-9]xx(?![a-z0-9])|随便(?:你|您)?(?:出|给|开)"
            r"|(?:你|您)(?:来|自己)?定价|(?:你|您)说多少|(?<![a-z])(?:hundos?|benjamins?"
            r"|tens)(?![a-z])|(?<![a-z])[*x×●■□#]{1,4}\s*(?:元(?!旦|件|素|宵)|块钱|yuan|kuai)"
        ),
    ),
)

_STRONG = rf"\s*(?:{_UNIT_CHINESE}|{_UNIT_LATIN})"
# Shapes of numbers that are no price: times, dates, measures, memory.
MASKS = (
    re.compile(r"(?<![0-9])(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?![0-9])(?!\s*[元块])"),
    re.compile(r"(?<![0-9])(?:19|20)[0-9]{2}[-/.][01]?[0-9](?:[-/.][0-3]?[0-9])?(?![0-9])(?!\s*[元块])"),
    re.compile(rf"(?<![0-9.])[0-9.]{{1,9}}(?:\s?[x×*]\s?[0-9.]{{1,9}}){{1,3}}(?={_STRONG})"),
    re.compile(r"(?<![0-9])[0-9]{3,5}\s*[x×*]\s*[0-9]{3,5}(?![0-9])(?!\s*[元块])"),
    re.compile(
        r"(?<![0-9])(?:[2346]|8|12|16|24)\s*\+\s*(?:16|32|64|128|256|512|1024|1t|2t)(?![0-9])(?!\s*[元块])"
    ),
    re.compile(rf"(?<![0-9.])[0-9.]{{1,9}}\s?(?:-|到|至|~|/|or|to)\s?[0-9.]{{1,9}}(?={_STRONG})"),
    re.compile(
        rf"(?<![{CHINESE}])[{CHINESE}]{{1,9}}\s?(?:-|到|至|~|/"
        rf"|或)\s?[{CHINESE}]{{1,9}}(?=\s*(?:{_UNIT_CHINESE}))"
    ),
    re.compile(rf"{_LABEL}[0-9.]{{1,9}}\s?(?:-|到|至|~|to)\s?[0-9.]{{1,9}}"),
    re.compile(r"双(?:十一|十二|11|12)|618(?=活动|大促|买|期间|时|入)|五一节|十一假期"),
    re.compile(r"v[0-9]{1,4}(?:\.[0-9]{1,9}){1,4}"),
    re.compile(r"(?<![0-9.])[248]k(?=\s*(?:屏|显|视|高清|超清|蓝光|画质|分辨|电视|60|120|144|hdr|oled))"),
)
