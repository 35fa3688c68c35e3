"""The dashboard: an ASGI application that mounts under any prefix. It needs the extra `qik-core[web]`.

from qik_core.web import Access, app

dashboard = app(authorize=lambda request: Access.ADMIN if request.user.is_staff else Access.NONE)
site.mount("/jobs", dashboard)
"""

from __future__ import annotations

from qik_core.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "access": ["Access", "Secrets", "Who"],
        "asked": ["Ask", "Problem", "View"],
        "application": ["app"],
        "tabs": ["Card", "CardTab", "Tab", "TabPage", "Tone"],
    },
)
