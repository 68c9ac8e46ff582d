#!/bin/sh
# A start as a Space makes it: a clean export of what is committed, a new virtual environment with the requirements and
# nothing else, the Space's variables, `python app.py`. Nothing may be asked of another machine once it is installed.
#
#   sh tests/space/start.sh [FOLDER]      prints the seconds to the first page; PIP_EXTRA adds options for pip, such as
#                                         "--extra-index-url https://download.pytorch.org/whl/cpu"
# AIA_LENS_PYTHON names an interpreter that has the requirements already; then none is installed.
set -eu
cd "$(dirname "$0")/../.."
folder=${1:-$(mktemp -d)}
port=${AIA_LENS_PORT:-7860}
mkdir -p "$folder/home/user/app"
git archive --format=tar HEAD | tar -x -C "$folder/home/user/app"
python=${AIA_LENS_PYTHON:-}
if [ -z "$python" ]; then
  "${PYTHON:-python3.11}" -m venv "$folder/venv"
  python="$folder/venv/bin/python"
  # shellcheck disable=SC2086  # several options are meant
  "$python" -m pip install --quiet --disable-pip-version-check ${PIP_EXTRA:-} -r requirements.txt
fi
cd "$folder/home/user/app"
started=$(date +%s)
env -i PATH="$PATH" HOME="$folder/home/user" TMPDIR="$folder" LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 \
  ${PYTHONPATH:+PYTHONPATH="$PYTHONPATH"} ${AIA_LENS_WATCH:+AIA_LENS_WATCH="$AIA_LENS_WATCH"} \
  ${AIA_LENS_DATA:+AIA_LENS_DATA="$AIA_LENS_DATA"} ${AIA_LENS_FRAMES:+AIA_LENS_FRAMES="$AIA_LENS_FRAMES"} \
  SYSTEM=spaces SPACE_ID=someone/aia-lens SPACE_HOST=someone-aia-lens.hf.space SPACE_AUTHOR_NAME=someone \
  SPACE_REPO_NAME=aia-lens SPACE_TITLE="AIA Lens" CPU_CORES=2 MEMORY=16Gi GRADIO_SERVER_NAME=0.0.0.0 \
  GRADIO_SERVER_PORT="$port" AIA_LENS_PORT="$port" GRADIO_ALLOW_FLAGGING=never OMP_NUM_THREADS=2 \
  "$python" app.py > "$folder/log.txt" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null' EXIT INT TERM
until "$python" - "$port" <<'PYTHON' 2>/dev/null
import sys, urllib.request
urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/", timeout=5)
PYTHON
do
  kill -0 $server 2>/dev/null || { cat "$folder/log.txt" >&2; exit 1; }
  sleep 0.2
done
echo "up after $(($(date +%s) - started)) s"
[ -z "${AIA_LENS_STAY:-}" ] || wait $server
