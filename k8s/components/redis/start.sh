# Starts Redis with its users on standard input, as hashes of their passwords. This keeps the passwords out of argument
# lists, and no character in them needs quoting. With exec, Redis itself receives SIGTERM.
#
# The sidecars' user is `default`, because REDIS_PASSWORD alone means that user. It may do what sidecar.acl says. The user
# `operator` may do everything, and exists only if OPERATOR_PASSWORD is set.
set -eu
hash() { printf %s "$1" | sha256sum | cut -c 1-64; }
: "${REDIS_PASSWORD:?expected a password}"
here=${0%/*}
exec redis-server - <<CONFIGURATION
$(cat "$here/redis.conf")
user default reset on #$(hash "$REDIS_PASSWORD") $(tr '\n' ' ' <"$here/sidecar.acl")
${OPERATOR_PASSWORD:+user operator reset on #$(hash "$OPERATOR_PASSWORD") ~* &* +@all}
CONFIGURATION
