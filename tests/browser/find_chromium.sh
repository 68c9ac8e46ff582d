#!/bin/sh
# Make sure that the browser tests have a Chromium: find one, else install it, else say what to do.
for name in "$CHROMIUM" chromium chromium-browser google-chrome google-chrome-stable; do
  [ -n "$name" ] && command -v "$name" >/dev/null 2>&1 && exit 0
done
if command -v apt-get >/dev/null 2>&1; then
  as_root=""
  if [ "$(id -u)" -ne 0 ]; then as_root="sudo -n"; fi
  echo "No Chromium found; installing it with apt-get."
  $as_root apt-get update -qq && $as_root apt-get install -y -qq chromium >/dev/null && exit 0
fi
echo "The browser tests need a Chromium and none could be found or installed." >&2
echo "Install Chromium or Chrome, or set CHROMIUM to its path, and run make test again." >&2
exit 1
