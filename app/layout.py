"""Puts the page together: header, tabs, endpoints, and what launching it needs. Runs no model itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import plotly
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from app.account import login_html, make_account
from app.api import add_endpoints
from app.arrival import Arrival
from app.closer.matters_route import MATTERS_URL, MattersRoute
from app.closer.registry import KEYS, READERS
from app.closer.route import CLOSER_URL, Closer
from app.closer.space import space_sources
from app.closer.tasks import tasks_sources
from app.compare.api import add_compare_endpoint
from app.compare.page import COMPARE_ID, COMPARE_TAB, Compare
from app.components import load_script
from app.explore.adapters import list_adapters
from app.explore.page import Explore, state_html
from app.explore.samples import load_samples
from app.explore.stream import Stream
from app.finetune.api import add_tune_endpoints
from app.finetune.page import ID, TAB, Finetune
from app.finetune.request import Requests
from app.finetune.run_api import add_run_endpoints
from app.guard.doors import Doors
from app.guard.headers import SafeHeaders
from app.guard.uploads import KEPT_SECONDS, Allowance
from app.guard.values import CheckedBlocks
from app.health import HEALTH_URL, Health
from app.kept_answers import KeptAnswers
from app.library.api import add_library_endpoints
from app.library.files import export_route
from app.library.page import EXPORT_URL, LIBRARY_ID, LIBRARY_TAB, LibraryPage
from app.log import RequestLog
from app.measure.api import add_measure_endpoints
from app.measure.export import data_route
from app.measure.page import MEASURE_ID, MEASURE_TAB, Measure
from app.measure.request import MeasureRequests
from app.measure.shelf import Shelf
from app.measure.views import DATA_URL
from app.people import PeoplesBlocks, WhoAsks, login_check
from app.rules import rules_of
from app.security import SameOriginOnly
from app.sessions import MOST_SESSIONS, keep_little
from app.settings import Settings
from app.skips import SparingBlocks
from backend.background.runs import Runs
from backend.comparison import Comparables
from backend.engine import Engine
from backend.finetuning.memory import has_gpu
from backend.kept.archives import MAX_IMPORT_BYTES
from backend.kept.knockouts import Knockouts
from backend.kept.library import Library
from backend.kept.library_files import LibraryFiles
from backend.matters import Matters
from backend.measuring.runs import Measures, measures_beside
from backend.models.specs import ASSETS
from backend.people.accounts import Accounts
from backend.people.quotas import Quotas

PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
PLOTLY_URL = f"lens/plotly-{plotly.__version__}.min.js"  # the version makes it safe to cache for ever
RUN_URL = "lens/run"
STYLES = (
    "style.css",
    "finetune.css",
    "tune_form.css",
    "compare.css",
    "measure.css",
    "library.css",
    "closer.css",
    "space.css",
    "matters.css",
)
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
MONO_FONTS = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]

# Gradio's names for parts of the look. What has two colours is painted before style.css is there.
TWO_COLOURS = {
    "body_background_fill": ("#fbfbfa", "#141415"),
    "body_text_color": ("#1d1d1f", "#ededec"),
}
SAME_IN_BOTH = {
    "block_background_fill": "transparent",
    "block_border_width": "0px",
    "block_padding": "0px",
    "block_shadow": "none",
    "block_label_text_color": "var(--lens-soft)",
    "block_title_text_color": "var(--lens-soft)",
    "block_title_text_size": "12.5px",
    "block_title_text_weight": "400",
    "block_info_text_color": "var(--lens-soft)",
    "block_info_text_size": "12px",
    "border_color_primary": "var(--lens-line)",
    "border_color_accent": "var(--lens-ink)",
    "color_accent": "var(--lens-ink)",
    "color_accent_soft": "var(--lens-chip)",
    "input_background_fill": "var(--lens-card)",
    "input_background_fill_focus": "var(--lens-card)",
    "input_border_color": "var(--lens-line)",
    "input_border_color_focus": "var(--lens-soft)",
    "input_border_width": "1px",
    "input_padding": "9px 12px",
    "input_placeholder_color": "var(--lens-faint)",
    "input_radius": "8px",
    "input_shadow": "none",
    "input_shadow_focus": "none",
    "input_text_size": "14px",
    "button_primary_background_fill": "var(--lens-ink)",
    "button_primary_background_fill_hover": "var(--lens-ink)",
    "button_primary_text_color": "var(--lens-bg)",
    "button_primary_border_color": "transparent",
    "button_secondary_background_fill": "var(--lens-card)",
    "button_secondary_background_fill_hover": "var(--lens-chip)",
    "button_secondary_text_color": "var(--lens-ink)",
    "button_secondary_border_color": "var(--lens-line)",
    "button_large_radius": "8px",
    "button_large_text_weight": "550",
    "button_large_text_size": "14px",
    "slider_color": "var(--lens-ink)",
    "panel_background_fill": "transparent",
    "panel_border_width": "0px",
    "background_fill_primary": "var(--lens-card)",
    "background_fill_secondary": "var(--lens-chip)",
    "body_text_color_subdued": "var(--lens-soft)",
    "layout_gap": "16px",
}


class Page(CheckedBlocks, PeoplesBlocks, SparingBlocks):
    """Gradio's page: values are checked, each handler is run for whoever asks, what is skipped costs nothing."""


ONE_PERSON = Settings()


def build_app(
    engine: Engine,
    runs: Runs,
    settings: Settings = ONE_PERSON,
    quotas: Quotas | None = None,
    measures: Measures | None = None,
) -> gr.Blocks:
    """The page with its endpoints. Makes the capture that a first visit sees, unless it is stored.

    `measures` lie beside the runs unless told otherwise.
    """
    rules, measures = rules_of(settings, has_gpu(), quotas), measures or measures_beside(runs)
    with Page(
        title="AIA Lens",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(KEPT_SECONDS, KEPT_SECONDS),
    ) as blocks:
        blocks.apart = settings.apart
        arrival = Arrival()
        explore = Explore(engine, load_samples(), lambda: list_adapters(runs))
        things = Comparables(engine.store, runs)
        library = Library(things)
        requests = Requests(runs, runs.folder.parent, engine.specs, rules)
        shelf, asked = Shelf(measures, things.measurements), MeasureRequests(measures, requests)
        with gr.Row(elem_id="lens-header"):
            gr.HTML('<h1 class="lens-mark">AIA Lens</h1>', apply_default_css=False, elem_id="lens-name")
            state = gr.HTML(state_html(engine.state()), apply_default_css=False, elem_id="lens-state", js_on_load=None)
            make_account(arrival, settings)
        with gr.Tabs(elem_id="lens-tabs") as tabs:
            with gr.Tab("Explore", id="explore") as explore_tab:
                explore.build(arrival, state, rules)
            with gr.Tab(TAB, id=ID) as finetune_tab:
                finetune = Finetune(requests, things)
                finetune.build(arrival, tabs, explore_tab, finetune_tab)
            with gr.Tab(COMPARE_TAB, id=COMPARE_ID) as compare_tab:
                Compare(things).build(arrival, tabs, compare_tab)
            with gr.Tab(MEASURE_TAB, id=MEASURE_ID) as measure_tab:
                Measure(asked, shelf, engine.store).build(arrival, tabs, measure_tab, finetune)
            with gr.Tab(LIBRARY_TAB, id=LIBRARY_ID) as library_tab:
                LibraryPage(library, rules).build(arrival, tabs, library_tab)
        arrival.connect(blocks)
        add_endpoints(engine, rules)
        add_run_endpoints(requests)
        add_tune_endpoints(requests, things)
        add_compare_endpoint(things)
        add_measure_endpoints(asked, shelf)
        add_library_endpoints(library, rules)
    return blocks


def launch_options(engine: Engine, settings: Settings) -> dict[str, Any]:
    """Everything for `Blocks.launch`: look, address, limits, our own routes, and what keeps strangers out."""
    stream = Stream(engine, load_samples())
    runs = Runs(settings.runs)
    things = Comparables(engine.store, runs)
    shelf = Shelf(measures_beside(runs), things.measurements)
    files = LibraryFiles(Library(things))
    readers = READERS | space_sources(engine.look) | tasks_sources(things.measurements)
    closer = Closer(things, readers, engine.unpacked)
    matters = MattersRoute(Matters(engine, Knockouts(settings.knockouts)), closer.find)
    routes = [
        Route(f"/{PLOTLY_URL}", serve_plotly),
        Route(f"/{HEALTH_URL}", Health(engine, settings.data).respond),
        Route(f"/{RUN_URL}", stream.respond, methods=["POST"]),
        Route(f"/{EXPORT_URL}", export_route(files)),
        Route(f"/{DATA_URL}", data_route(shelf)),
        Route(f"/{CLOSER_URL}/{{view}}", closer.respond),
        Route(f"/{MATTERS_URL}", matters.respond, methods=["POST"]),
    ]
    return {
        "server_name": settings.host,
        "server_port": settings.port,
        "root_path": settings.root_path or None,
        "auth": login_check(Accounts(settings.auth)) if settings.auth else None,
        "auth_message": login_html() if settings.auth else None,
        "theme": make_theme(),
        "head": make_head(),
        "favicon_path": str(ASSETS / "icon.png"),
        "footer_links": [],
        "run_history": False,  # slows every large update severalfold
        "enable_monitoring": False,
        "show_error": False,  # what a user can mend is shown by the cards; the rest goes to the log
        "share": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "strict_cors": True,
        "allowed_paths": [],
        "state_session_capacity": MOST_SESSIONS,
        "max_file_size": MAX_IMPORT_BYTES,  # pictures have a limit of their own
        "app_kwargs": {
            "middleware": make_middleware(settings, routes),
            "routes": routes,
            "lifespan": keep_little,
            "docs_url": None,
            "redoc_url": None,
        },
    }


def make_middleware(settings: Settings, routes: list[Route]) -> list[Middleware]:
    """What every request passes on its way in, the first first."""
    allowance = Allowance(settings.uploads_per_hour, settings.uploads_mib * 2**20)
    return [
        Middleware(RequestLog),
        Middleware(SafeHeaders, frames=settings.frames),
        Middleware(SameOriginOnly, allowed_hosts=(*settings.allowed_hosts, settings.host)),
        *([Middleware(WhoAsks, framed=settings.framed, accounts=bool(settings.auth))] if settings.apart else []),
        Middleware(Doors, own=[route.path_regex for route in routes], allowance=allowance),
        Middleware(KeptAnswers),
    ]


def serve_plotly(request: Request) -> Response:
    """plotly.js of the installed package, under an address that names no folder of this machine."""
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return FileResponse(PLOTLY_JS, media_type="text/javascript", headers=headers)


def make_head() -> str:
    """Style and shared scripts, inline: Gradio's own `css` option rewrites selectors."""
    style = "".join((ASSETS / name).read_text(encoding="utf-8") for name in STYLES)
    script = load_script("shared").replace("@plotly", PLOTLY_URL) + load_script("run").replace("@run", RUN_URL)
    script += load_script("closer").replace("@closer", CLOSER_URL).replace('"@keys"', json.dumps(KEYS))
    script += "".join(map(load_script, ("heatmap", "curve", "headlist", "patchmap", "pinnedhead")))
    preload = f'<link rel="preload" as="script" href="{PLOTLY_URL}">'
    return f"{preload}<style>{style}</style><script>{script}</script>"


def make_theme() -> gr.themes.Base:
    """Gradio's plainest theme with system fonts; its colours point at the variables of style.css."""
    theme = gr.themes.Base(primary_hue="neutral", neutral_hue="neutral", font=FONTS, font_mono=MONO_FONTS)
    values = dict(SAME_IN_BOTH)
    values |= {f"{name}_dark": value for name, value in SAME_IN_BOTH.items() if hasattr(theme, f"{name}_dark")}
    for name, (light, dark) in TWO_COLOURS.items():
        values |= {name: light, f"{name}_dark": dark}
    return theme.set(**values)
