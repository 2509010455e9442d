"""What a buyer wants, by keywords: cheap, and good enough to choose a prompt. The model's own view, which
comes with its answer, is what callers are told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

from frontdesk.ai_proxy.answers.fold import fold
from frontdesk.ai_proxy.answers.policy import Policy
from frontdesk.ai_proxy.answers.prices import Kind, find_prices

# Characters that are read, the newest: as many as one message has at the most.
MOST = 2_000


class Intent(StrEnum):
    """What a buyer wants; the values are those of a model's result."""

    PRICE = "price"
    TECHNICAL = "technical"
    AFTER_SALE = "after_sale"
    OTHER = "other"


_AFTER_SALE = re.compile(
    r"退款|退货|换货|售后|投诉|坏了|收到|签收|物流|快递到|还没发|发货了|怎么还不|什么时候发|催|单号|破损|少发|漏发|假货|差评|赔|保修|质保"
    r"|refund|return (?:it|this|the)|broken|damaged|tracking|where is my|arrived|not arrived"
    r"|warranty|complain"
)
_PRICE = re.compile(
    r"多少钱|便宜|优惠|最低|价|刀|打折|折扣|包邮|少点|小刀|大刀|预算|诚心|诚意|砍|讲价|能少|出不出|卖不卖|贵|学生党|一口价|抹零|爽快"
    r"|price|cheap|discount|lowest|how much|deal|offer|for less|budget|best you can"
)
_TECHNICAL = re.compile(
    r"参数|配置|尺寸|尺码|多大|多重|颜色|成色|电池|内存|容量|型号|版本|系统|怎么用|如何|支持|兼容|功能|材质|真皮|正品|保质期|瑕疵|划痕|拆修|维修过|教程|安装|几成新|续航|功率"
    r"|size|colou?r|battery|memory|model|version|support|compatible|condition|material|genuine"
    r"|how (?:do|to|does)|scratch|spec"
)


def guess(turns: Sequence[str]) -> Intent:
    """What the newest words of a buyer ask for."""
    text = fold("\n".join(turns)[-MOST:])
    if _AFTER_SALE.search(text):
        return Intent.AFTER_SALE
    said = {price.kind for view in find_prices(text) for price in view}
    if _PRICE.search(text) or said & {Kind.MONEY, Kind.FACTOR, Kind.OFF}:
        return Intent.PRICE
    return Intent.TECHNICAL if _TECHNICAL.search(text) else Intent.OTHER


def prompt_of(policy: Policy, intent: Intent) -> str:
    """The seller's prompt for an intent, or the default one."""
    return {
        Intent.PRICE: policy.price_prompt,
        Intent.TECHNICAL: policy.technical_prompt,
        Intent.AFTER_SALE: policy.after_sale_prompt,
        Intent.OTHER: policy.other_prompt,
    }[intent]
