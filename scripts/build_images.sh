#!/usr/bin/env bash
# Builds RLU's images with buildah: no daemon, and no root where user namespaces are allowed.
#
#   scripts/build_images.sh gateway engine-cuda             build them, as rlu-gateway:VERSION, rlu-engine-cuda:VERSION
#   scripts/build_images.sh --twice gateway                 build twice from nothing; the digests must be the same
#   scripts/build_images.sh gateway -- --volume A:B:ro ...  further options of `buildah build`, such as --build-arg PYTHON_IMAGE=NAME@sha256:...
#
# Images: gateway, engine-cpu, engine-cuda, engine-rocm (see Dockerfile). Bases are not pulled unless you pass --pull, so that what is built on is
# what you looked at. Behind a proxy with a CA of its own, mount it and pip's configuration (--volume); nothing that is mounted gets into an image.
# Two builds give the same digest as long as the base and Debian's packages are the same: pin the base by digest.
set -euo pipefail
cd "$(dirname "$0")/.."

twice=
targets=()
while [ $# -gt 0 ]; do
    case $1 in
    --twice) twice=1 ;;
    --) shift; break ;;
    gateway | engine-cpu | engine-cuda | engine-rocm) targets+=("$1") ;;
    *) echo "usage: scripts/build_images.sh [--twice] gateway|engine-cpu|engine-cuda|engine-rocm ... [-- BUILDAH OPTIONS]" >&2; exit 2 ;;
    esac
    shift
done
[ ${#targets[@]} -gt 0 ] || { echo "build_images: name an image: gateway, engine-cpu, engine-cuda or engine-rocm" >&2; exit 2; }
command -v buildah >/dev/null || { echo "build_images: buildah is missing; on Debian: apt-get install --no-install-recommends buildah runc" >&2; exit 3; }
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)

build() { # target, options...
    local target=$1 file
    shift
    file=$(mktemp)
    buildah build --pull-never --network=host --format oci --timestamp 0 --layers=false --target "$target" \
        --tag "rlu-$target:$version" --iidfile "$file" "$@" . >&2
    cat "$file"
    rm -f "$file"
}

for target in "${targets[@]}"; do
    first=$(build "$target" "$@")
    if [ -n "$twice" ]; then
        second=$(build "$target" "$@")
        [ "$first" = "$second" ] || { echo "build_images: $target: $first, and the second time $second" >&2; exit 1; }
    fi
    printf '%s\t%s\n' "rlu-$target:$version" "$first"
done
