-- The action `auth-request BACKEND PATH` for HAProxy 2.6 or later. It sends a HEAD request for PATH, with the headers of
-- the current request, to the first usable server of BACKEND. It needs no other Lua library.
--
-- The action sets these transaction variables (the first three are named as in haproxy-auth-request):
--   txn.auth_response_successful   true if the response is 2xx, otherwise false
--   txn.auth_response_code         the status of the response; 500 without a response
--   txn.auth_response_location     the Location of the response, or an empty string
--   txn.auth_response_header.x_y   the header X-Y of the response; one variable for each header

local TIMEOUT = 1000 -- ms, for each attempt; HAProxy 2.6 makes four attempts, and that number cannot be configured

-- These headers describe the client's connection or the request body, neither of which is sent to the sidecar.
local HERE = {
    ["connection"] = true, ["keep-alive"] = true, ["proxy-connection"] = true, ["te"] = true,
    ["trailer"] = true, ["transfer-encoding"] = true, ["upgrade"] = true, ["content-length"] = true,
    ["expect"] = true, ["host"] = true,
}

local function address_of(backend)
    for _, server in pairs(core.backends[backend].servers) do
        local status = server:get_stats()["status"]
        if status == "no check" or status:find("UP", 1, true) == 1 then
            return server:get_addr()
        end
    end
    return nil
end

core.register_action("auth-request", { "http-req" }, function(txn, backend, path)
    txn:set_var("txn.auth_response_successful", false)
    txn:set_var("txn.auth_response_code", 500)
    txn:set_var("txn.auth_response_location", "")
    local address = address_of(backend)
    if address == nil then
        txn:Warning("auth-request: no server of " .. backend .. " is up")
        return
    end
    local headers = {}
    for name, values in pairs(txn.http:req_get_headers()) do
        if not HERE[name] then
            headers[name] = values
        end
    end
    local answer = core.httpclient():head({
        url = "http://" .. address .. path, headers = headers, timeout = TIMEOUT,
    })
    if answer == nil or answer.status == nil or answer.status == 0 then
        txn:Warning("auth-request: no answer from " .. backend)
        return
    end
    txn:set_var("txn.auth_response_code", answer.status)
    for name, values in pairs(answer.headers) do
        -- The index of the first value is 0 or 1, depending on HAProxy's version.
        local all = {}
        for n = 0, #values + 1 do
            if values[n] ~= nil then
                all[#all + 1] = values[n]
            end
        end
        local variable = name:lower():gsub("[^a-z0-9]", "_")
        txn:set_var("txn.auth_response_header." .. variable, table.concat(all, ", "))
        if variable == "location" then
            txn:set_var("txn.auth_response_location", all[1])
        end
    end
    if answer.status >= 200 and answer.status < 300 then
        txn:set_var("txn.auth_response_successful", true)
    end
end, 2)
