-- The action `auth-request BACKEND PATH` for HAProxy 2.6 or later: asks the first usable server of BACKEND whether
-- this request may pass, by a HEAD to PATH that has the request's own headers. Needs no other Lua library.
--
-- Leaves the answer in variables of the transaction (the first three as haproxy-auth-request names them):
--   txn.auth_response_successful   true only after a 2xx
--   txn.auth_response_code         its status; 500 when there was none
--   txn.auth_response_location     its Location, where it had one
--   txn.auth_response_header.x_y   its header X-Y, each of them

local TIMEOUT = 1000 -- ms; a server that does not answer is asked four times by HAProxy 2.6, which cannot be changed there

-- They belong to the client's connection or to its body, which stay here.
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
        -- A list has its members from 0 or from 1 on, by version.
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
