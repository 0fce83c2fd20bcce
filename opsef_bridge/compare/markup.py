"""HTML by construction: what is text is escaped, what is HTML already is of type `Html`."""

from __future__ import annotations

import html
from typing import Any

__all__ = ["Html", "element", "join"]

_VOID = {"img", "input", "meta"}


class Html(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


def element(tag: str, /, *children: object, **attributes: Any) -> Html:
    """Return an element; children and attribute values that are not `Html` are escaped.

    Parameters
    ----------
    tag : str
    *children : object
        None is left out.
    **attributes
        ``class_`` is class, ``data_full`` is data-full; True is an attribute without a
        value, None and False leave it out.

    Examples
    --------
    >>> element("b", "a < b", class_="x", hidden=True)
    '<b class="x" hidden>a &lt; b</b>'
    >>> element("p", element("b", 1))
    '<p><b>1</b></p>'
    """
    head = tag
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        head += " " + key.rstrip("_").replace("_", "-")
        head += "" if value is True else f'="{html.escape(str(value))}"'
    if tag in _VOID:
        return Html(f"<{head}>")
    return Html(f"<{head}>{join(*children)}</{tag}>")


def join(*children: object) -> Html:
    """Return the children one after the other, escaped where they are not `Html`.

    Examples
    --------
    >>> join("<", Html("<br>"))
    '&lt;<br>'
    """
    texts = (c if isinstance(c, Html) else html.escape(str(c)) for c in children if c is not None)
    return Html("".join(texts))
