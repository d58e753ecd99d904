#!/usr/bin/env bash
# Install Debian's chromium and its driver where they are missing.
set -euo pipefail

fail() {
    echo "test-browser: $1" >&2
    exit 1
}

there() { command -v chromium >/dev/null && command -v chromedriver >/dev/null; }

there && exit 0
command -v apt-get >/dev/null || fail "needs chromium and chromedriver, and there is no apt-get here to install them"
root=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "needs chromium and chromedriver: as root, apt-get install chromium chromium-driver"
    root=(sudo)
fi
# The lists that an image brings may name versions that the mirror no longer has.
"${root[@]}" apt-get update -q ||
    fail "needs chromium and chromedriver, and apt-get update failed: is there a network?"
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium chromium-driver ||
    fail "apt-get could not install chromium and chromium-driver (is there a network?)"
there || fail "chromium or chromedriver is missing although apt-get installed them"
