#!/usr/bin/env bash
# Unpacks the 64-bit Arm libraries that the cross build (preset aarch64) links into build/arm64-root.
# Uses package lists of its own: the machine's architecture settings stay as they are.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD/build/arm64-root
[ ! -e "$root/done" ] || exit 0
work=$PWD/build/arm64-apt
mkdir -p "$root" "$work/lists/partial" "$work/debs"
options=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State::Lists=$work/lists"
    -o Dir::State::status=/dev/null -o Debug::NoLocking=1 -o APT::Sandbox::User=)
packages=(libprotobuf-c-dev libprotobuf-c1 libcmocka-dev libcmocka0 libyaml-dev libyaml-0-2
    libpng-dev libpng16-16 libjpeg62-turbo-dev libjpeg62-turbo zlib1g-dev zlib1g)
apt-get "${options[@]}" update
(cd "$work/debs" && apt-get "${options[@]}" download "${packages[@]}")
for deb in "$work"/debs/*.deb; do
    dpkg -x "$deb" "$root"
done
touch "$root/done"
