#!/bin/sh
# Installs LVM-AI from the wheels of this folder, without any network, into a folder of its own.
# Nothing else on the machine is changed. Run it as any user: sh install.sh --target FOLDER
set -eu

usage() {
  cat <<TEXT
usage: sh install.sh [--target FOLDER] [--python PROGRAM]

  --target FOLDER   where to install, a folder that does not exist yet (default: ./lvm-ai-env)
  --python PROGRAM  a Python $BUNDLE_PYTHON (default: python$BUNDLE_PYTHON)

It needs Python $BUNDLE_PYTHON, glibc $BUNDLE_GLIBC or newer on $BUNDLE_MACHINE, and $BUNDLE_DISK_MB MB in FOLDER. It needs no root,
no compiler, no network and no home folder. It checks SHA-256 sums first, makes a virtual
environment in FOLDER and writes nowhere else. To remove LVM-AI, delete FOLDER.
TEXT
}

fail() {
  printf 'error: %s\n' "$1" >&2
  exit 1
}

bundle=$(cd "$(dirname "$0")" && pwd)
# BUNDLE_PYTHON, BUNDLE_GLIBC and the like.
. "$bundle/bundle.env"
target=$PWD/lvm-ai-env
python=python$BUNDLE_PYTHON

while test $# -gt 0; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --target) test $# -ge 2 || { usage >&2; exit 2; }; target=$2; shift 2 ;;
    --python) test $# -ge 2 || { usage >&2; exit 2; }; python=$2; shift 2 ;;
    *) printf 'error: %s is not an option\n' "$1" >&2; usage >&2; exit 2 ;;
  esac
done
case $target in /*) ;; *) target=$PWD/$target ;; esac

# A link counts too, also one that leads nowhere.
if test -e "$target" || test -L "$target"; then
  fail "$target is there already. Name another folder with --target, or remove it first"
fi
command -v "$python" >/dev/null 2>&1 ||
  fail "$python was not found. This bundle is for Python $BUNDLE_PYTHON; name its program with --python"
command -v sha256sum >/dev/null 2>&1 || fail "sha256sum was not found. Install GNU coreutils or busybox"

# Settings of the user would reach Python and pip otherwise, such as the address of an index.
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV || true
export PYTHONNOUSERSITE=1 PYTHONUTF8=1

"$python" - "$BUNDLE_PYTHON" "$BUNDLE_MACHINE" "$BUNDLE_GLIBC" <<'CHECK' || exit 1
import platform, sys

python, machine, glibc = sys.argv[1:]
have = f"{sys.version_info[0]}.{sys.version_info[1]}"
if have != python:
    sys.exit(f"error: {sys.executable} is Python {have}, and this bundle is for {python}. "
             f"Name another program with --python, or make a bundle with PYTHON_VERSION={have}")
if platform.machine() != machine:
    sys.exit(f"error: this machine is {platform.machine()}, and this bundle is for {machine}")
name, version = platform.libc_ver()
numbers = lambda text: [int(part) for part in text.split(".")[:2]]
if name != "glibc" or numbers(version) < numbers(glibc):
    sys.exit(f"error: this machine has {name or 'no glibc'} {version}, and these wheels need glibc {glibc} or newer. "
             "Make a bundle with an older PLATFORM, such as manylinux_2_28_x86_64")
CHECK

parent=$(dirname "$target")
mkdir -p "$parent" 2>/dev/null && test -w "$parent" ||
  fail "$parent cannot be written to. Name another folder with --target"
free_mb=$(df -Pk "$parent" | awk 'NR == 2 { print int($4 / 1000) }')
test "$free_mb" -ge "$BUNDLE_DISK_MB" ||
  fail "$parent has $free_mb MB free, and $BUNDLE_DISK_MB MB are needed. Name another folder with --target"

echo "checking SHA-256 sums"
# Only names are printed, and only of files that are wrong.
(cd "$bundle" && sha256sum -c SHA256SUMS 2>/dev/null | grep -v ': OK$' >&2) &&
  fail "files of this bundle are damaged, changed or missing; they are named above. Copy the archive again"
(cd "$bundle" && sha256sum -c SHA256SUMS >/dev/null 2>&1) || fail "the sums of this bundle cannot be checked"

incomplete() {
  rm -rf "$target"
  printf 'error: the installation stopped; %s was removed\n' "$target" >&2
}
trap incomplete EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "installing $BUNDLE_PACKAGES packages into $target"
# Debian's Python has no ensurepip, so pip runs from its wheel.
"$python" -m venv --without-pip "$target"
# pip looks for a home folder, which users of enclaves and containers may not have.
export HOME="$target"
set -- "$bundle"/wheels/pip-*.whl
"$target/bin/python" "$1/pip" --isolated --disable-pip-version-check --no-cache-dir install --quiet \
  --no-index --find-links "$bundle/wheels" --no-deps --require-hashes --root-user-action ignore \
  -r "$bundle/requirements.txt"
"$target/bin/python" -m pip --isolated --disable-pip-version-check check
"$target/bin/lvm-ai" --help >/dev/null

trap - EXIT
cat <<TEXT
installed: $target/bin/lvm-ai ($(du -sm "$target" | cut -f1) MB)
try it:    $target/bin/lvm-ai demo demo-output
remove it: rm -r $target
TEXT
