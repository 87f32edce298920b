-- Checks HS256 bearer tokens (HMAC by FFI to libcrypto); optionally gets session:token:<sha256> over a cosocket pool.
local ffi, cjson = require "ffi", require "cjson.safe"
ffi.cdef [[
unsigned char *HMAC(const void *md, const void *key, int kl, const unsigned char *d, size_t n, unsigned char *out, unsigned int *len);
const void *EVP_sha256(void);
unsigned char *SHA256(const unsigned char *d, size_t n, unsigned char *md);
int CRYPTO_memcmp(const void *a, const void *b, size_t n);
]]
local C, M = ffi.load "libcrypto.so.3", {}
local out, len, md = ffi.new "unsigned char[64]", ffi.new "unsigned int[1]", nil

local function decode(s)
  s = s:gsub("-", "+"):gsub("_", "/")
  return ngx.decode_base64(s .. ("="):rep(-#s % 4))
end

local function deny(status)
  ngx.header["WWW-Authenticate"] = 'Bearer error="invalid_token"'
  return ngx.exit(status)
end

local function claims(token, secret)
  local head, body, tail = token:match "^([^.]+)%.([^.]+)%.([^.]+)$"
  if not head then return nil end
  local header, signature = cjson.decode(decode(head) or ""), decode(tail)
  if type(header) ~= "table" or header.alg ~= "HS256" or not signature or #signature ~= 32 then return nil end
  local signed = head .. "." .. body
  md = md or C.EVP_sha256()
  C.HMAC(md, secret, #secret, signed, #signed, out, len)
  if C.CRYPTO_memcmp(out, signature, 32) ~= 0 then return nil end
  local payload = cjson.decode(decode(body) or "")
  if type(payload) ~= "table" or type(payload.exp) ~= "number" then return nil end
  if payload.exp <= ngx.time() or payload.iss ~= "auth-sidecar" then return nil end
  return payload
end

local function session(token, port)
  C.SHA256(token, #token, out)
  local hex = ffi.string(out, 32):gsub(".", function(x) return ("%02x"):format(x:byte()) end)
  local key, sock = "session:token:" .. hex, ngx.socket.tcp()
  sock:settimeouts(200, 200, 200)
  if not sock:connect("127.0.0.1", port, { pool_size = 64 }) then return nil, 503 end
  sock:send("*2\r\n$3\r\nGET\r\n$" .. #key .. "\r\n" .. key .. "\r\n")
  local line = sock:receive()
  if not line then return nil, 503 end
  local found = line ~= "$-1"
  if found then sock:receive(tonumber(line:sub(2)) + 2) end
  sock:setkeepalive(60000, 64)
  return found, 401
end

function M.new(secret, port)
  return { check = function(with_session)
    local header = ngx.var.http_authorization
    if not header or header:sub(1, 7):lower() ~= "bearer " then return deny(401) end
    local token = header:sub(8)
    local payload = claims(token, secret)
    if not payload then return deny(401) end
    if with_session then
      local found, status = session(token, port)
      if not found then return deny(status) end
    end
    ngx.req.set_header("X-Auth-User", payload.sub)
  end }
end

return M
