#!/usr/bin/env bash
# Packs what `make build` has built into DIST_DIR (dist): redis-coupon-VERSION-TARGET.tar.gz, and SHA256SUMS beside it. From
# the same commit and the same build come the same bytes, whoever packs them, and whenever.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/say.sh

release=${CARGO_TARGET_DIR:-target}/release
dist=${DIST_DIR:-dist}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
target=$(rustc -vV | sed -n 's/^host: //p')
name=redis-coupon-$version-$target
programs=("$release/libcoupon.so" "$release/coupon-reconciler")
# What the README and the pages link to, and what runs the programs elsewhere.
texts=(README.md README.ko.md CHANGELOG.md LICENSE LICENSE-APACHE LICENSE-MIT redis.conf docs migrations
  deploy/README.md deploy/systemd deploy/kubernetes deploy/prometheus deploy/grafana)

tar --version 2>/dev/null | grep -q 'GNU tar' || fail 'GNU tar is missing: another one cannot order and date what it packs' \
  'on macOS: brew install gnu-tar, and put its gnubin folder in front of the PATH'
for program in "${programs[@]}"; do
  [ -f "$program" ] || fail "$program is not built" 'run: make dist'
done
built=$("$release/coupon-reconciler" --version)
[ "$built" = "coupon-reconciler $version" ] || fail "$release holds $built, and Cargo.toml says $version" 'run: make dist'

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
root=$stage/$name
mkdir -p "$root/completions" "$dist"

# As committed, so that nothing that lies about is published.
git ls-files -z -- "${texts[@]}" | xargs -0 cp --parents --target-directory="$root"
cp "${programs[@]}" "$root"
# Line tables are for those who profile their own build. The names of functions stay, for a backtrace.
strip --strip-debug "$root/libcoupon.so" "$root/coupon-reconciler"
for shell in bash zsh fish; do
  "$release/coupon-reconciler" completions "$shell" >"$root/completions/coupon-reconciler.$shell"
done

commit=$(git rev-parse HEAD)
if [ -n "$(git status --porcelain)" ]; then
  commit="$commit, with changes"
fi
glibc=$(objdump -T "$root/libcoupon.so" "$root/coupon-reconciler" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
cat >"$root/BUILD" <<END
version   $version
target    $target
commit    $commit
compiler  $(rustc --version)
needs     glibc ${glibc#GLIBC_} or later, Redis 7.0 or later or Valkey 8.1 or later, PostgreSQL 14 or later
END
(cd "$root" && find . -type f ! -name SHA256SUMS -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum >"$stage/sums")
mv "$stage/sums" "$root/SHA256SUMS"

find "$root" -type f -exec chmod 644 {} + -o -type d -exec chmod 755 {} +
chmod 755 "$root/libcoupon.so" "$root/coupon-reconciler"
# Written beside and moved, so that nobody takes half of one.
LC_ALL=C tar --create --sort=name --format=ustar --mtime="@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}" \
  --owner=0 --group=0 --numeric-owner --directory="$stage" "$name" | gzip -9n >"$stage/packed"
cp "$stage/packed" "$dist/.$name.tar.gz"
mv "$dist/.$name.tar.gz" "$dist/$name.tar.gz"
(cd "$dist" && sha256sum redis-coupon-*.tar.gz >SHA256SUMS)
say "$dist/$name.tar.gz ($(wc -c <"$dist/$name.tar.gz" | tr -d ' ') bytes)"
sed 's/^/    /' "$root/BUILD"
