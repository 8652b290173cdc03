# Sourced by every step that downloads. Indexes, proxies and certificates come from BuildKit secrets, so that they never
# reach a layer; local wheels lie in /wheelhouse.
if [ -f /run/secrets/mlship-env ]; then . /run/secrets/mlship-env; fi
if [ -d /wheelhouse ]; then
    export PIP_FIND_LINKS="/wheelhouse ${PIP_FIND_LINKS:-}"
    export UV_FIND_LINKS="/wheelhouse${UV_FIND_LINKS:+,$UV_FIND_LINKS}"
fi
# Groups install side by side: with uv's default of 50 downloads each, proxies drop connections.
export UV_LINK_MODE=copy UV_CONCURRENT_DOWNLOADS=8
# pip's settings, or else pip's defaults.
export UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-15}" UV_HTTP_RETRIES="${UV_HTTP_RETRIES:-5}"
