"""Packaging of LVM-AI: distribution `lvm-ai`, console script `lvm-ai`."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
PACKAGES = ("lvm_core", "models", "beam_jobs", "analysis", "studies")

DEV = [
    # checks
    "ruff",
    "mypy",
    "pandas-stubs<3",
    "types-PyYAML",
    "types-defusedxml",
    "types-psutil",
    "pre-commit",
    # tests
    "pytest",
    "pytest-cov",
    "pytest-timeout",
    "pytest-xdist",  # tests on several cores
    "hypothesis",
    "psutil",
    # independent readers, and real servers of object stores
    "wfdb",
    "ecgdatakit",
    "sierraecg",
    "pydicom",  # MIT, alive; also writes the DICOM files of the tests
    "moto[server]",
    "gcp-storage-emulator",
    "boto3",
    # locks, and the editable install without build isolation
    "pip-tools",
    "setuptools",
    "wheel",
]

# Peers of `make bench`: how others score a model over Parquet. Nothing else uses them.
BENCH = ["ray[data]", "onnx", "onnxruntime", "openvino", "tensorflow-hub", "psutil"]

setup(
    name="lvm-ai",
    version="0.1.0",
    description="Left ventricular mass from 12-lead ECGs, at biobank scale. Research only.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=[f"{name}{below}" for name in PACKAGES for below in ("", ".*")]),
    py_modules=["lvm_ai"],
    package_data={
        "beam_jobs.runners": ["*.yaml"],
        "models.demo": ["*.keras.xz", "*.md", "*.yaml"],
        "analysis": ["check.R"],
        "analysis.report": ["templates/*", "checklist_items/*.csv"],
        "studies": ["*.yaml", "*.json", "*.md", "code_lists/*.csv"],
    },
    install_requires=[
        "apache-beam>=2.77,<3",
        "numpy>=2",
        "scipy>=1.15",
        "threadpoolctl>=3.5",  # one BLAS thread beside threads of our own; BSD, alive, one file
        "pyarrow>=25",
        "pandas>=2.3,<3",
        "lifelines>=0.30",
        "matplotlib>=3.9",  # pictures
        "pillow",  # pictures of few colours are small; matplotlib needs it anyway
        "duckdb>=2",  # joins of millions of coded records in seconds; MIT, alive
        "jinja2>=3.1",  # the report page, with escaping; BSD, alive
        "python-docx>=1.2",  # tables for Word; MIT, alive
        "keras>=3.3",
        "h5py",  # legacy Keras files, and ECGs in HDF5
        "pydantic>=2",  # settings files are checked before any work
        "PyYAML",  # settings files
        "defusedxml",  # vendor XML is not to be trusted
        "edfio>=0.4.18",  # EDF of bytes in memory; Apache 2.0, alive, pure Python, numpy alone
        "rich",  # progress bars
    ],
    extras_require={
        "cpu": ["tensorflow-cpu>=2.21"],
        "gpu": ["tensorflow[and-cuda]>=2.21"],
        # Clients of Google's services, to submit jobs; workers do without. Apache 2.0, 70 packages.
        "dataflow": ["apache-beam[gcp]>=2.77,<3"],
        "dev": DEV,
        "bench": BENCH,
    },
    entry_points={"console_scripts": ["lvm-ai=lvm_ai:main", "lvm-beam-boot=beam_jobs.runners.boot:main"]},
)
