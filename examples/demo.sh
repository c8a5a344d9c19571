#!/bin/bash
# Builds Pinstone, serves with defaults, publishes examples/site, and keeps serving until Ctrl-C.
# PORT=8081 listens elsewhere. Data is kept in ./pinstone-data.
set -euo pipefail
cd "$(dirname "$0")/.."
port=${PORT:-8080}
cargo=${CARGO:-cargo}

# Asked first: learning it after the build would be late.
for address in 127.0.0.1 ::1; do
    if (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; then
        echo "error: something listens on port $port already; stop it, or choose another: PORT=8081 make demo" >&2
        exit 1
    fi
done

.ci/setup
command -v "$cargo" >/dev/null || export PATH="$HOME/.cargo/bin:$PATH"
"$cargo" build --workspace
pinstone=${CARGO_TARGET_DIR:-target}/debug/pinstone

listen=()
if [ "$port" != 8080 ]; then
    listen=(--listen "127.0.0.1:$port")
    # Browsers try ::1 for *.localhost. Not every machine has it.
    if [ -s /proc/net/if_inet6 ]; then listen+=(--listen "[::1]:$port"); fi
fi

coproc server { exec "$pinstone" serve --data pinstone-data "${listen[@]}"; }
server_pid=$!
exec {output}<&"${server[0]}"
trap 'kill -TERM "$server_pid" 2>/dev/null || true; wait "$server_pid" 2>/dev/null || true' EXIT
trap 'exit 0' INT TERM

url=
while IFS= read -r -u "$output" line; do
    echo "$line"
    case $line in "listening on "*)
        url=${line#listening on }
        break
        ;;
    esac
done
if [ -z "$url" ]; then
    wait "$server_pid" || exit $?
    exit 1
fi
cat <&"$output" &

site=$("$pinstone" deploy examples/site --project demo --prod --yes --message 'make demo' --endpoint "$url")
cat <<END

  open            $site
  change it       edit a file below examples/site, then in a second terminal:
                  $pinstone deploy examples/site --project demo --prod
  stop            Ctrl-C; 'make demo' goes on where it stopped, 'make clean-demo' forgets everything

END
wait "$server_pid"
