"""A report of invented numbers, as wide, long and awkward as real ones, to look at."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.report.document import ReadFigure, ReadTable, Section
from analysis.report.page import Report
from analysis.study.data import About

LONG = "Antihypertensivemedicationandothercardiovascularprescriptionsattheindexvisit"
OUTCOMES = {
    "af": "atrial fibrillation",
    "mi": "myocardial infarction",
    "hf": "heart failure",
    "va": "ventricular arrhythmia",
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
ABOUT = About(
    name="Invented cohort",
    exposure="lvmi_pred_g_m2",
    exposure_name="predicted LV mass index",
    exposure_unit="g/m2",
    outcomes=OUTCOMES,
    horizon_years=5.0,
    model_id="demo-synthetic",
    lvh_preset="khurshid2021",
    k=10,
    base=5,
    release="strict",
    is_demo=True,
)


def _wide_table(key: str, title: str, n_rows: int) -> ReadTable:
    rng = np.random.default_rng(20240501)
    rows = []
    for place in range(n_rows):
        hr = np.exp(rng.normal(0.2, 0.2, 4))
        shown = [f"{one:.2f} ({one * 0.85:.2f} to {one * 1.18:.2f})" for one in hr]
        words = list(OUTCOMES.values())[place // 3 % 4]
        rows.append(
            [
                words,
                ("per SD", "per 10 g/m2", "LVH")[place % 3],
                f"{20_000 - 5 * place:,}",
                "*" if place == 4 else f"{120 + 5 * place}",
                f"{98_760 - 10 * place:,}",
                *shown,
                "< 0.001",
                "0.032",
                "–",
            ]
        )
    heads = [
        "Outcome",
        "Contrast",
        "People",
        "Events",
        "Person-years",
        *(f"Model {n} (95% CI)" for n in (1, 2, 3, 4)),
        "P",
        "P for proportional hazards",
        "q",
    ]
    return ReadTable(key, title, pd.DataFrame(rows, columns=heads), 2, ("Limits are 95 %.", "q: of secondaries."))


def _baseline() -> ReadTable:
    rows = [
        ["Age, years", "63.2 (7.5)", "65.0 (7.1)", "0", "0.25"],
        ["Women", "52.0 %", "41.5 %", "0", "-0.21"],
        [LONG, "20.1 %", "35.7 %", "1,250", "0.35"],
        ["Body mass index, kg/m2", "26.9 (4.1)", "28.8 (4.9)", "15", "0.42"],
    ]
    heads = ["", "No LVH", "LVH", "Missing", "Standardised difference"]
    return ReadTable("baseline", "Who they are", pd.DataFrame(rows, columns=heads))


def _curves(outcome: str, words: str) -> ReadFigure:
    canvas = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = canvas.add_subplot()
    years = np.linspace(0, 8, 60)
    for place, group in enumerate(("Q1", "Q2", "Q3", "Q4")):
        axes.step(
            years,
            1 - np.exp(-0.004 * (place + 1) * years),
            color=COLOURS[place],
            linestyle=("-", "--", "-.", ":")[place],
            label=group,
            where="post",
        )
    axes.set(xlabel="Years since the index ECG", ylabel="Cumulative incidence")
    axes.legend(frameon=False, title="Quartile")
    return ReadFigure(
        f"incidence_{outcome}",
        f"Cumulative incidence of {words} by quartile",
        f"Four curves of {words} that rise to 3, 6, 9 and 12 % at 8 years.",
        canvas,
        ("Death competes.",),
    )


def _forest() -> ReadFigure:
    canvas = Figure(figsize=(6.5, 3.0), layout="constrained")
    axes = canvas.add_subplot()
    places = np.arange(4)
    axes.errorbar([1.5, 1.2, 1.8, 1.4], places, xerr=0.2, fmt="s", color=COLOURS[0], capsize=3)
    axes.axvline(1, color="0.4", linewidth=0.8)
    axes.set_yticks(places, list(OUTCOMES.values()))
    axes.set(xlabel="Hazard ratio per SD (95% CI)")
    return ReadFigure("forest", "Hazard ratios per SD", "Four hazard ratios, all above 1.", canvas)


def _hexagons() -> ReadFigure:
    rng = np.random.default_rng(7)
    canvas = Figure(figsize=(5.0, 4.6), layout="constrained")
    axes = canvas.add_subplot()
    x = rng.normal(90, 20, 4000)
    drawn = axes.hexbin(x, x + rng.normal(0, 12, 4000), gridsize=24, mincnt=10, cmap="cividis_r")
    canvas.colorbar(drawn, ax=axes, label="People")
    axes.set(xlabel="Predicted LV mass (g)", ylabel="LV mass by CMR (g)")
    return ReadFigure(
        "agreement", "Predicted against measured mass", "A narrow cloud along the diagonal from 40 to 150 g.", canvas
    )


def sample_report(title: str = "Invented cohort: predicted LV mass and outcomes") -> Report:
    """Return a report of eight sections, five tables and six figures."""
    figures = [_curves(key, words) for key, words in OUTCOMES.items()]
    flow = pd.DataFrame(
        [
            ["in the cohort", "20,000", "20,000"],
            ["no usable ECG", "1,250", "1,250"],
            ["prevalent", "430", "*"],
            ["analysed", "18,320", "18,700"],
        ],
        columns=["Reason", "Atrial fibrillation", "Heart failure"],
    )
    text = "Cumulative incidence is Aalen and Johansen's, death competing; a sentence to read. " * 4
    sections = (
        Section("flow", "Flow", (text,), (ReadTable("flow", "People by reason", flow),)),
        Section("baseline", "Who they are", items=(_baseline(),)),
        Section("follow_up", "Follow-up", (f"A long word: {LONG * 2}.",)),
        Section("rates", "Events and cumulative incidence", (text,), tuple(figures)),
        Section(
            "hazard_ratios",
            "Hazard ratios",
            (text,),
            (_wide_table("hazard_ratios", "Hazard ratios", 12), _forest()),
            ("Ventricular arrhythmia: 45 events for 6 parameters, fewer than 10 for each.",),
        ),
        Section(
            "sensitivity", "Sensitivity analyses", (text,), (_wide_table("sensitivity", f"Sensitivity: {LONG}", 60),)
        ),
        Section("cmr", "Against CMR", (text,), (_hexagons(),)),
        Section(
            "code_lists",
            "Code lists",
            (text,),
            (
                ReadTable(
                    "codes",
                    "Codes",
                    pd.DataFrame(
                        {
                            "Code": ["I48", "I50"],
                            "Meaning": ["atrial fibrillation and flutter", LONG],
                            "Records": ["1,255", "*"],
                        }
                    ),
                    1,
                ),
            ),
        ),
    )
    return Report(
        title,
        ABOUT,
        sections,
        (text, text),
        ("Predictions are of a demonstration model.", f"A code list is unknown: {LONG}."),
        {"lvm-ai": "0.1.0", "python": "3.11"},
        {"predictions": "0764989632149590" * 4},
        ("Synthetic data", "Training overlap unknown"),
    )
