-- Asks the sidecar about a request: `http-request lua.cap` lets it pass with the identity headers of the sidecar,
-- or answers the client as the sidecar says. Whatever is no clear answer is 503.
--
-- From the environment, which haproxy.cfg sets before it loads this file: CAP_ADDRESS (unix@/path or
-- ipv4@host:port), CAP_TIMEOUT (milliseconds), CAP_HEADERS (what the service is told, with spaces between).

local address, patience = os.getenv("CAP_ADDRESS"), tonumber(os.getenv("CAP_TIMEOUT"))
local identity = {}
for name in os.getenv("CAP_HEADERS"):gmatch("%S+") do
    identity[#identity + 1] = name:lower()
end

-- Not copied: what is said of this connection or of the body, and what is said below.
local own = {}
for _, name in ipairs({
    "connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "x-original-method", "x-original-uri", "x-original-host", "x-real-ip",
}) do
    own[name] = true
end

-- Passed on with a denial.
local told = { "content-type", "cache-control", "www-authenticate", "retry-after", "x-cap-reason", "x-cap-decision-id" }

-- Lists in HAProxy begin at 0, and a header that came twice has two values: the sidecar is to see both.
local function all(values)
    local found = {}
    for index = 0, #values do
        if values[index] ~= nil then
            found[#found + 1] = values[index]
        end
    end
    return found
end

local function question(txn)
    local headers = {}
    for name, values in pairs(txn.http:req_get_headers()) do
        if not own[name] then
            headers[name] = all(values)
        end
    end
    headers["host"] = { "cap" }
    headers["x-original-method"] = { txn.sf:method() }
    headers["x-original-uri"] = { txn.sf:pathq() }
    headers["x-original-host"] = { txn.sf:req_hdr("host") }
    headers["x-real-ip"] = { txn.sf:src() }
    return headers
end

local function answer(txn, status, headers, body)
    local reply = txn:reply({ status = status })
    for _, name in ipairs(told) do
        if headers[name] ~= nil then
            reply:add_header(name, headers[name][0])
        end
    end
    reply:set_body(body)
    txn:done(reply)
end

core.register_action("cap", { "http-req" }, function(txn)
    local said = core.httpclient():get({
        url = "http://127.0.0.1/",
        dst = address,
        headers = question(txn),
        timeout = patience,
    })
    local status = said ~= nil and said.status or 0
    if status == 200 then
        for _, name in ipairs(identity) do
            local value = said.headers[name]
            if value ~= nil and value[0] ~= "" then
                txn.http:req_set_header(name, value[0])
            else
                txn.http:req_del_header(name)
            end
        end
    elseif status >= 400 and status < 500 then
        answer(txn, status, said.headers, said.body or "")
    elseif status == 503 then
        answer(txn, 503, said.headers, said.body or "")
    else
        answer(txn, 503, { ["retry-after"] = { [0] = "5" } }, "")
    end
end)
