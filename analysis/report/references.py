"""The published sources of what a study does, for a bibliography; the code cites the same ones."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

ALWAYS: Final = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """A published source."""

    key: str
    authors: str  # as BibTeX has them
    title: str
    journal: str
    year: int
    volume: str
    pages: str  # the first, or the number of the article
    section: str = ALWAYS  # key of the section that needs it

    def bibtex(self) -> str:
        """Return an entry of a BibTeX file."""
        fields = {
            "author": self.authors,
            "title": f"{{{self.title}}}",
            "journal": self.journal,
            "year": str(self.year),
            "volume": self.volume,
            "pages": self.pages,
        }
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@article{{{self.key},\n{lines}\n}}\n"


REFERENCES: Final = (
    Reference(
        "khurshid2021",
        "Khurshid, S. and Friedman, S. and Pirruccello, J. P. and Di Achille, P. and Diamant, N. and Anderson, C. D. "
        "and Ellinor, P. T. and Batra, P. and Ho, J. E. and Philippakis, A. A. and Lubitz, S. A.",
        "Deep Learning to Predict Cardiac Magnetic Resonance-Derived Left Ventricular Mass and Hypertrophy From "
        "12-Lead ECGs",
        "Circ Cardiovasc Imaging",
        2021,
        "14",
        "e012281",
    ),
    Reference(
        "dubois1916",
        "Du Bois, D. and Du Bois, E. F.",
        "A formula to estimate the approximate surface area if height and weight be known",
        "Arch Intern Med",
        1916,
        "17",
        "863",
    ),
    Reference(
        "austin2009",
        "Austin, P. C.",
        "Balance diagnostics for comparing the distribution of baseline covariates between treatment groups in "
        "propensity-score matched samples",
        "Stat Med",
        2009,
        "28",
        "3083",
        "baseline",
    ),
    Reference(
        "garwood1936",
        "Garwood, F.",
        "Fiducial limits for the Poisson distribution",
        "Biometrika",
        1936,
        "28",
        "437",
        "rates",
    ),
    Reference(
        "gray1988",
        "Gray, R. J.",
        "A class of K-sample tests for comparing the cumulative incidence of a competing risk",
        "Ann Stat",
        1988,
        "16",
        "1141",
        "rates",
    ),
    Reference(
        "cox1972",
        "Cox, D. R.",
        "Regression models and life-tables",
        "J R Stat Soc B",
        1972,
        "34",
        "187",
        "hazard_ratios",
    ),
    Reference(
        "efron1977",
        "Efron, B.",
        "The efficiency of Cox's likelihood function for censored data",
        "J Am Stat Assoc",
        1977,
        "72",
        "557",
        "hazard_ratios",
    ),
    Reference(
        "fine1999",
        "Fine, J. P. and Gray, R. J.",
        "A proportional hazards model for the subdistribution of a competing risk",
        "J Am Stat Assoc",
        1999,
        "94",
        "496",
        "competing",
    ),
    Reference(
        "grambsch1994",
        "Grambsch, P. M. and Therneau, T. M.",
        "Proportional hazards tests and diagnostics based on weighted residuals",
        "Biometrika",
        1994,
        "81",
        "515",
        "proportional_hazards",
    ),
    Reference(
        "harrell1996",
        "Harrell, F. E. and Lee, K. L. and Mark, D. B.",
        "Multivariable prognostic models: issues in developing models, evaluating assumptions and adequacy, and "
        "measuring and reducing errors",
        "Stat Med",
        1996,
        "15",
        "361",
        "added_value",
    ),
    Reference(
        "delong1988",
        "DeLong, E. R. and DeLong, D. M. and Clarke-Pearson, D. L.",
        "Comparing the areas under two or more correlated receiver operating characteristic curves: a nonparametric "
        "approach",
        "Biometrics",
        1988,
        "44",
        "837",
        "cmr",
    ),
    Reference(
        "petersen2017",
        "Petersen, S. E. and others",
        "Reference ranges for cardiac structure and function using cardiovascular magnetic resonance (CMR) in "
        "Caucasians from the UK Biobank population cohort",
        "J Cardiovasc Magn Reson",
        2017,
        "19",
        "18",
        "cmr",
    ),
    Reference(
        "sokolow1949",
        "Sokolow, M. and Lyon, T. P.",
        "The ventricular complex in left ventricular hypertrophy as obtained by unipolar precordial and limb leads",
        "Am Heart J",
        1949,
        "37",
        "161",
        "cmr",
    ),
    Reference(
        "casale1987",
        "Casale, P. N. and others",
        "Improved sex-specific criteria of left ventricular hypertrophy for clinical and computer interpretation of "
        "electrocardiograms: validation with autopsy findings",
        "Circulation",
        1987,
        "75",
        "565",
        "cmr",
    ),
    Reference(
        "rosner1989",
        "Rosner, B. and Willett, W. C. and Spiegelman, D.",
        "Correction of logistic regression relative risk estimates and confidence intervals for systematic "
        "within-person measurement error",
        "Stat Med",
        1989,
        "8",
        "1051",
        "calibrated",
    ),
)


def bibliography(sections: Collection[str]) -> str:
    """Return a BibTeX file with the sources that a report with these sections needs."""
    return "\n".join(one.bibtex() for one in REFERENCES if one.section in (ALWAYS, *sections))
