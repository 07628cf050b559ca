"""What the HTML pages share: template assets, inlined data, and the error when their packages are missing."""

import json
from pathlib import Path
from typing import Any, Final

from conformergen.errors import InputError

#: Templates and the bundled copy of 3Dmol.js.
_ASSETS: Final = Path(__file__).parent / "assets"


def render_page(template: str, *, needed_by: str, **values: object) -> str:
    """A self-contained page from a template of ``assets``; 3Dmol.js is inlined, so that it works offline.

    Args:
        template: Name of the template.
        needed_by: What needs the packages, for the error message.
        values: Variables of the template; those whose names end in ``_html`` are inserted without escaping.

    Raises:
        InputError: Where Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment
        from markupsafe import Markup
    except ImportError as error:
        raise InputError(f"{needed_by} needs the extra 'report': pip install 'conformergen[report]'") from error
    safe = {k: Markup(v) if k.endswith("_html") else v for k, v in values.items()}
    library = Markup((_ASSETS / "3Dmol-min.js").read_text())
    source = (_ASSETS / template).read_text()
    return Environment(autoescape=True).from_string(source).render(library_html=library, **safe)


def script_json(value: Any) -> str:
    """JSON that cannot end the script element in which it stands."""
    return json.dumps(value).replace("<", "\\u003c")
