"""Promises without a number: "成交" agrees to the price that the buyer named, "包邮" gives the postage."""

from __future__ import annotations

import re
from collections.abc import Collection
from decimal import Decimal

from frontdesk.ai_proxy.answers.fold import fold
from frontdesk.ai_proxy.answers.prices import Kind, clauses, find_prices

# Says yes to the buyer's price, whatever else is said.
_THEIRS = re.compile(
    r"(?:按|照|依|听|随|如)(?:着|了)?(?:您|你)(?:的|说|讲|出|给|开|报|想)|依你|依您|听你|听您|随你"
    r"|(?:你|您)(?:说|讲|出|开|报|要|想要?|提)的?(?:那个|这个)?(?:价|数|那个数)|就这个价|就那个价|这个价(?:格)?(?:可以|行|ok|好|没问题|卖|出|给)"
    r"|your price|as you (?:say|said|wish|want|like)|(?:that|this|the) price (?:is|works)"
)
# Says yes to the price that is talked of: the clause's own one, if it names one.
_STRONG = re.compile(
    r"(?<!不)(?<!没)成交(?!价|量|记录|后|的|过)|就这么?定|(?:给|帮|为)(?:你|您)改价?|我(?:来"
    r"|去|这边|马上|现在|就)*改(?:价|一下|下)|改好?价|价格?(?:已|我|给你|给您|帮你|帮您)*改"
    r"|(?:卖|出)给?(?:你|您)了|给(?:你|您)了"
    r"|就卖(?:你|您)?了?$|归(?:你|您)了|一言为定|说定了|谈妥|好吧|行吧|那行|那好|算了"
    r"|答应(?:你|您)|同意|接受(?:你|您|这)|满足(?:你|您)|拿去|拿走|(?:就)?卖了|卖给(?:你|您)"
    r"|认了|砍价成功|(?:出价|价格)(?:已|被)?(?:经)?接受|支持(?:你|您)的|调整好|改好|已改"
    r"|这样定"
    r"|(?<![a-z])deal(?![a-z])(?! with)|(?<![a-z])agreed?(?![a-z])|you(?:'ve| have)? got it"
    r"|(?:it'?s|is)(?: all)? yours|have it|let'?s do it|acceptable|i(?:'ll)? accept|accepted"
    r"|i(?:'ll)? take (?:it|that)|works for me|fair enough|(?<![a-z])sold(?![a-z])"
)
# A clause of nothing but these says yes; the longest first.
_YES = re.compile(
    r"嗯呐|嗯+|恩+|必须|当然|阔以|口以|要得|得嘞|老铁|ojbk|666|absolutely|sure thing|why not|perfect"
    r"|y(?![a-z])|then"
    r"|没问题|没毛病|妥妥的|好的|好滴|好哒|好嘞|可以|行的|妥了|准了|没事|亲亲|老板|兄弟"
    r"|of course|no problem|alright|okay|okey|sure|fine|yeah|done|yep|yes|ok|k"
    r"|[好行可中成得对是妥亲呀啊哦呢哒的滴啦了吧嘛哈👌🤝👍✅☑✔🆗😊😄]|\s"
)
# Says yes to a sale.
_SALE = re.compile(
    r"(?<!不)(?:可以|能)(?:的)?(?:卖|出(?!示)|给(?:你|您)(?!看|发|拍|讲|说|介绍|找|查|问|提供|试)|改)"
    r"|(?:直接|去|你|您|先|快|现在|那)*(?:拍吧|拍下吧?|下单吧?|付款吧?|去拍|来拍|拍了|拍就)"
    r"|(?<![a-z])go ahead(?![a-z])|(?<![a-z])buy it(?![a-z])|(?<![a-z])order it(?![a-z])"
    r"|place (?:the|an|your) order"
)
_REFUSAL = re.compile(
    r"不(?:能|可以|会)?(?:再)?(?:少|便宜|降|议价|讲价|刀|优惠|还价|让|打折|接受|卖|出)|少不了|卖不了|出不了|做不到|没法|无法|太低|低了|不行|一口价|不议价|谢绝|不包邮"
    r"|最低(?:价)?(?:就)?(?:是|了)|没有?(?:议价|优惠|空间)|亏本|can't|cannot|too low"
    r"|not possible|fixed price|firm|lowest is|unable|won't"
)
_LISTED = re.compile(r"原价|标价|价值|挂|卖价|listed|worth|(?<![a-z])was(?![a-z])|original")
_QUESTION = re.compile(r"吗|么|行不行|好不好|可不可以|能不能|\?")
# A price that only a buyer can have named, where no number of it is known.
_SOME_PRICE = re.compile(
    r"按(?:你|您)(?:说|讲|出|报|开)的价|(?:你|您)(?:说|出|开|报)的价(?:格)?(?:可以|行|成交|ok"
    r"|没问题)|your price(?: is)?(?: fine| ok| works)|deal at your price"
)


_LOOKS_BACK = re.compile(
    r"开始|刚才|刚刚|之前|以前|第一|前面|上次|上面|最初|那个价|原来|earlier|previous|before|above|original|(?<![a-z])first"
)
_FREE_SHIPPING = re.compile(
    r"(?<!不)(?<!没)(?:包邮|包运费|包快递|免邮|免运费|免快递费)(?!不|吗|么)|(?:运费|邮费|快递费)(?:由)?(?:我|我们|卖家|本店|店家)(?:来)?(?:出|付|承担|包)"
    r"|(?:我|我们|卖家|本店)(?:来)?(?:承担|出|付|包)(?:运费|邮费|快递费)|free (?:shipping"
    r"|delivery)|shipping (?:is )?(?:free|on (?:me|us))"
)
_NOT_FREE = re.compile(r"(?:不|没|无法|no|not|without|don't)[^,。!?]{0,4}$")


def accepts(text: str, named: Collection[Decimal], *, has_own_price: bool, asked_now: bool) -> bool:
    """Whether `text` may be read as a yes to a price that it does not say.

    `named` are the prices that the buyer named just now; one that stands before a yes is what it agrees to.
    `has_own_price`: the text says some price itself. `asked_now`: the buyer named a price since the seller
    last spoke; to an older one only plain words agree.
    """
    refused = agreed = -1
    before: set[Decimal] = set()
    for number, clause in enumerate(clauses(fold(text))):
        said = {p.value for view in find_prices(clause) for p in view if p.kind in (Kind.MONEY, Kind.BARE)}
        named_here = said and not _LISTED.search(clause)
        if _REFUSAL.search(clause):
            refused = number
        elif _THEIRS.search(clause) and not _QUESTION.search(clause):
            return True
        elif _STRONG.search(clause) and not _QUESTION.search(clause):
            if not named_here and not before & set(named):
                return True
        elif not _YES.sub("", clause) or (_SALE.search(clause) and asked_now and refused < 0):
            agreed = number
        before = said
    return agreed > refused and not has_own_price


def declines(text: str) -> bool:
    """Whether `text` says no to a price, and does not say yes after it."""
    said = False
    for clause in clauses(fold(text)):
        if _REFUSAL.search(clause):
            said = not _QUESTION.search(clause)
        elif not _YES.sub("", clause):
            said = False
    return said


def accepts_some_price(text: str) -> bool:
    """Whether `text` agrees to the buyer's price, whatever it is."""
    return bool(_SOME_PRICE.search(fold(text)))


def looks_back(text: str) -> bool:
    """Whether `text` speaks of something said before."""
    return bool(_LOOKS_BACK.search(fold(text)))


def promises_shipping(text: str) -> bool:
    """Whether `text` says that the seller pays the postage."""
    folded = fold(text)
    return any(not _NOT_FREE.search(folded[: found.start()]) for found in _FREE_SHIPPING.finditer(folded))
