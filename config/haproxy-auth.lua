-- The action `auth-request BACKEND PATH` for HAProxy 2.6 or later. It sends a GET request for PATH, with the headers of
-- the current request, to the first usable server of BACKEND. It returns any response other than 2xx to the client, with
-- its headers and body. It needs no other Lua library.
--
-- After a 2xx response, or without any response, processing continues. The action sets these transaction variables (the first three are named as in haproxy-auth-request):
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
-- HAProxy sets these itself in what the client gets.
local OWN = {
    ["connection"] = true, ["keep-alive"] = true, ["transfer-encoding"] = true, ["content-length"] = true,
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
    local answer = core.httpclient():get({
        url = "http://" .. address .. path, headers = headers, timeout = TIMEOUT,
    })
    -- HAProxy's client answers 503 or 504 itself if the sidecar does not; every response of the sidecar has X-Request-Id.
    if answer == nil or answer.status == nil or answer.headers["x-request-id"] == nil then
        txn:Warning("auth-request: no answer from " .. backend)
        return
    end
    local allowed = answer.status >= 200 and answer.status < 300
    local denial = txn:reply({ status = answer.status })
    txn:set_var("txn.auth_response_code", answer.status)
    for name, values in pairs(answer.headers) do
        -- The index of the first value is 0 or 1, depending on HAProxy's version.
        local all = {}
        for n = 0, #values + 1 do
            if values[n] ~= nil then
                all[#all + 1] = values[n]
                if not OWN[name:lower()] then
                    denial:add_header(name, values[n])
                end
            end
        end
        local variable = name:lower():gsub("[^a-z0-9]", "_")
        txn:set_var("txn.auth_response_header." .. variable, table.concat(all, ", "))
        if variable == "location" then
            txn:set_var("txn.auth_response_location", all[1])
        end
    end
    if allowed then
        txn:set_var("txn.auth_response_successful", true)
    else
        if txn.sf:method() ~= "HEAD" then
            denial:set_body(answer.body)
        end
        txn:done(denial)
    end
end, 2)
