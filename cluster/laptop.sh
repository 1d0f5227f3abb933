#!/usr/bin/env bash
# A Ray head on this machine alone, behind a token and on loopback, to submit jobs to.
#   OPENAI_API_KEY=… cluster/laptop.sh start      the keys of this shell are those that runs will have
#   cluster/laptop.sh stop                        as `ray stop` does: every Ray of yours on this machine, not this head alone
set -euo pipefail
cd "$(dirname "$0")/.."
umask 077 # Ray's logs and sockets are nobody else's

export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
PATH="$PWD/.venv/bin:$PATH"
port=${PORT:-6379}
dashboard=${DASHBOARD_PORT:-8265}
agent=${AGENT_PORT:-52365} # of two heads on a machine with the same one, one starts no jobs
client=${CLIENT_PORT:-10001}

start() {
  ray get-auth-token --generate >/dev/null # to ~/.ray/auth_token, unless there is one
  ray start --head --disable-usage-stats --port="$port" \
    --dashboard-host=127.0.0.1 --dashboard-port="$dashboard" --dashboard-agent-listen-port="$agent" \
    --ray-client-server-port="$client" --node-ip-address="$(loopback)" "$@" >/dev/null
  cat <<EOF
a head is up; its dashboard is http://127.0.0.1:$dashboard (the token: ray get-auth-token)
  export RAY_AUTH_MODE=token
  python jobs/submit.py jobs/quickstart.yaml --out $PWD/runs/quickstart --address http://127.0.0.1:$dashboard
EOF
}

# Ray takes 127.0.0.1 for a mistake and uses the network card; Linux has a second address on loopback, macOS has not
loopback() {
  if [ "$(uname)" = Linux ]; then echo 127.0.0.2; else echo 127.0.0.1; fi
}

case "${1:-}" in
  start) start "${@:2}" ;;
  stop) ray stop ;;
  *)
    echo "usage: cluster/laptop.sh start [flags of ray start] | stop" >&2
    exit 2
    ;;
esac
