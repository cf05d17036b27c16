"""How Sphinx builds the documentation: ``make docs``.

The build fetches nothing, and the pages need no network. ``DOCS_NOTEBOOKS="first_run"``
executes these notebooks only, and leaves the others without their outputs.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parent / "build"
sys.path.insert(0, str(HERE / "_extensions"))

import fedasync_jax  # noqa: E402

project = "fedasync-jax"
author = "The fedasync-jax authors"
project_copyright = author
version = release = fedasync_jax.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "maths",
    "notebooks",
    "reference",
    "command_help",
    "root_pages",
]
html_theme = "furo"
html_title = "fedasync-jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_math_renderer = "mathml"

# Pages are Markdown, as GitHub shows it; tutorials are MyST notebooks.
exclude_patterns = ["_extensions", "_static"]
default_role = "literal"
smartquotes = False  # flags begin with two dashes
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_excludepatterns = [
    page.relative_to(HERE).as_posix()
    for page in HERE.rglob("*.md")
    if page.stem not in os.environ.get("DOCS_NOTEBOOKS", page.stem).split()
]
nb_execution_cache_path = str(BUILD / "notebooks")
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
suppress_warnings = ["myst-nb.lexer"]  # of notebooks that are left out of this build

# What one notebook compiles, the next one reads.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(BUILD / "compiled"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

# The reference follows ``__all__`` of every public room.
autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 76
napoleon_numpy_docstring = False
napoleon_attr_annotations = False
napoleon_use_rtype = False
add_module_names = False
