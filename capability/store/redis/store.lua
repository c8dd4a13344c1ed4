-- Every transaction of the store in Redis. A script runs alone on the server, so each call is all or nothing and
-- sees one moment; what could fail (another type of key, a line's number) is looked at before the first write.
--
-- KEYS[1]  the key `meta`, below the prefix
-- ARGV     prefix, id of the store that is meant ('': any), revision that was seen, command, its arguments
-- Answer   a word ('ok' or what is wrong), the revision, and what was asked for
--
-- Below the prefix:
--   meta      application, version, id (random), revision, serial (of the last record), counts
--   revoked   revocation id -> 'revision-n' and, after a space, when its token expires (microseconds)
--   acts      revision -> JSON: reason, actor, at
--   rules     'owner:user:ann' | 'tenant:acme' -> lines 'serial before revision' ('-': no such time)
--   feed      stream, entries 'revision-n': an id, or a rule; what `changes` reads and `wait` waits for
--   expiring  sorted set of revocation ids by the expiry of their tokens
--   records   serial -> JSON;  roots: root id -> serial;  ids: public id -> serial;  used: serial -> time
--   by:...    sorted sets of serials, and their sizes in `sizes`
--   heads     writer -> 'number hash';  audit:WRITER: stream, entries 'number-0'

local APPLICATION = 'capability-tokens'
local PREFIX, WANTED, SEEN, COMMAND = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local A = 4 -- arguments of the command begin behind this
local META = PREFIX .. 'meta'
local COUNTED = {'revoked', 'acts', 'rules', 'records', 'roots', 'ids', 'sizes', 'heads'}

local call = redis.call

-- How much there is of everything that an answer rests on. A key that was evicted, deleted or has expired
-- would otherwise read as 'not revoked'.
local function counts()
  local found = {}
  for i, name in ipairs(COUNTED) do found[i] = call('HLEN', PREFIX .. name) end
  found[#found + 1] = call('XLEN', PREFIX .. 'feed')
  return table.concat(found, ' ')
end

-- Each takes a store from one version to the next. Only ever appended to.
local MIGRATIONS = {
  function(id)
    call('HSET', META, 'application', APPLICATION, 'id', id, 'revision', '0', 'serial', '0', 'counts', counts())
  end,
}

local meta = call('HMGET', META, 'application', 'version', 'id', 'revision', 'serial', 'counts')
local version = tonumber(meta[2] or 0)
if not meta[1] and call('EXISTS', META) == 1 then return {'foreign'} end
if meta[1] and meta[1] ~= APPLICATION then return {'foreign'} end
if version > #MIGRATIONS then return {'newer', meta[2], tostring(#MIGRATIONS)} end
if COMMAND == 'create' or (COMMAND == 'migrate' and meta[1]) then
  if not meta[1] then
    for _, name in ipairs({'feed', 'used', 'expiring', unpack(COUNTED)}) do
      if call('EXISTS', PREFIX .. name) == 1 then return {'foreign'} end
    end
  end
  for n = version + 1, #MIGRATIONS do MIGRATIONS[n](ARGV[A + 1]) end
  if version < #MIGRATIONS then call('HSET', META, 'version', #MIGRATIONS) end
  meta = call('HMGET', META, 'application', 'version', 'id', 'revision', 'serial', 'counts')
end
if not meta[1] then return {'none'} end
if tonumber(meta[2] or 0) < #MIGRATIONS then return {'older'} end
local revision, serial = meta[4], meta[5]
if not (meta[3] and tonumber(revision) and tonumber(serial)) then return {'lost', 'its revision'} end
if WANTED ~= '' and meta[3] ~= WANTED then return {'other'} end
if tonumber(revision) < SEEN then return {'back', revision, ARGV[3]} end
if counts() ~= meta[6] then return {'lost', 'some of its keys'} end

local function seal() call('HSET', META, 'counts', counts()) end

local function whose(record)
  local found = {}
  if record.owner then found[#found + 1] = 'owner:' .. record.owner end
  if record.tenant then found[#found + 1] = 'tenant:' .. record.tenant end
  return found
end

local function covers(line, of_serial, created)
  local up_to, before = string.match(line, '^(%d+) (%S+) %d+$')
  return of_serial <= tonumber(up_to) and (before == '-' or created < tonumber(before))
end

-- Whether a rule means the record.
local function ruled(record, of_serial)
  for _, who in ipairs(whose(record)) do
    local lines = call('HGET', PREFIX .. 'rules', who)
    if lines then
      for line in string.gmatch(lines, '[^\n]+') do
        if covers(line, of_serial, record.created) then return true end
      end
    end
  end
  return false
end

local function read_record(of_serial)
  local text = call('HGET', PREFIX .. 'records', of_serial)
  if not text then return nil end
  return text, cjson.decode(text)
end

local function is_revoked(revocation_id)
  if call('HEXISTS', PREFIX .. 'revoked', revocation_id) == 1 then return true end
  local of_serial = call('HGET', PREFIX .. 'roots', revocation_id)
  if not of_serial then return false end
  local _, record = read_record(of_serial)
  return ruled(record, tonumber(of_serial))
end

local function from_hex(text)
  return (string.gsub(text, '..', function(pair) return string.char(tonumber(pair, 16)) end))
end

-- A record as it is kept, when it was last used, whether it is revoked, and its serial.
local function described(of_serial)
  local text, record = read_record(of_serial)
  if not text then return nil end
  local revoked = call('HEXISTS', PREFIX .. 'revoked', from_hex(record.root)) == 1
    or (record.root_key and call('HEXISTS', PREFIX .. 'revoked', 'root-key:' .. record.root_key) == 1)
    or ruled(record, tonumber(of_serial))
  return {text, call('HGET', PREFIX .. 'used', of_serial), revoked and 1 or 0, of_serial}
end

local function whole(index)
  return call('ZCARD', PREFIX .. 'by:' .. index) == tonumber(call('HGET', PREFIX .. 'sizes', index) or 0)
end

local function last_of(stream)
  if call('EXISTS', stream) == 0 then return 0 end
  local info = call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return tonumber(string.match(info[i + 1], '^(%d+)')) end
  end
end

-- Returns what keeps lines from being appended behind `expected`, or nil.
local function not_appendable(writer, expected)
  local head = call('HGET', PREFIX .. 'heads', writer) or ''
  if head ~= expected then return {'again', revision, head} end
  local number = tonumber(string.match(head, '^(%d+)') or 0)
  if last_of(PREFIX .. 'audit:' .. writer) > number then return {'lost', 'the end of an audit chain'} end
  return nil
end

local function append(writer, expected, lines)
  local number = tonumber(string.match(expected, '^(%d+)') or 0)
  local hash
  for i = 1, #lines, 2 do
    number, hash = number + 1, lines[i + 1]
    call('XADD', PREFIX .. 'audit:' .. writer, string.format('%d-0', number), 'line', lines[i], 'hash', hash)
  end
  local head = string.format('%d ', number) .. hash
  call('HSET', PREFIX .. 'heads', writer, head)
  return head
end

-- Returns the revision that comes next, or what is wrong.
local function next_revision(expected)
  if expected ~= revision then return nil, {'again', revision, call('HGET', PREFIX .. 'heads', 'store') or ''} end
  if last_of(PREFIX .. 'feed') > tonumber(revision) then return nil, {'lost', 'the order of its feed'} end
  return string.format('%d', tonumber(revision) + 1), nil
end

local commands = {}

function commands.create() return {'ok', revision, meta[3]} end
commands.migrate = commands.create
function commands.check() return {'ok', revision, meta[3]} end

function commands.status()
  for i = A + 1, #ARGV do
    if is_revoked(ARGV[i]) then return {'ok', revision, i - A} end
  end
  return {'ok', revision, 0}
end

-- record, root, public id, expiry or '', head, line, hash, indexes...
function commands.register()
  local text, root, id, expires, head = unpack(ARGV, A + 1, A + 5)
  if call('HEXISTS', PREFIX .. 'roots', root) == 1 or call('HEXISTS', PREFIX .. 'ids', id) == 1 then
    return {'exists', revision}
  end
  local wrong = not_appendable('store', head)
  if wrong then return wrong end
  for i = A + 8, #ARGV do
    if not whole(ARGV[i]) then return {'lost', 'an index'} end
  end
  local new = string.format('%d', tonumber(serial) + 1)
  if call('HEXISTS', PREFIX .. 'records', new) == 1 then return {'lost', 'the number of its records'} end
  call('HSET', META, 'serial', new)
  call('HSET', PREFIX .. 'records', new, text)
  call('HSET', PREFIX .. 'roots', root, new)
  call('HSET', PREFIX .. 'ids', id, new)
  for i = A + 8, #ARGV do
    call('ZADD', PREFIX .. 'by:' .. ARGV[i], ARGV[i] == 'expiry' and expires or new, new)
    call('HINCRBY', PREFIX .. 'sizes', ARGV[i], 1)
  end
  head = append('store', head, {ARGV[A + 6], ARGV[A + 7]})
  seal()
  return {'ok', revision, head}
end

-- serials...
function commands.records()
  local found = {}
  for i = A + 1, #ARGV do
    local one = described(ARGV[i])
    if not one then return {'lost', 'a record'} end
    found[#found + 1] = one
  end
  return {'ok', revision, found}
end

-- 'roots' | 'ids', key
function commands.record()
  local of_serial = call('HGET', PREFIX .. ARGV[A + 1], ARGV[A + 2])
  if not of_serial then return {'ok', revision, {}} end
  local one = described(of_serial)
  if not one then return {'lost', 'a record'} end
  return {'ok', revision, one}
end

-- index, serial to begin behind, number
function commands.serials()
  local index, after, number = ARGV[A + 1], tonumber(ARGV[A + 2]), tonumber(ARGV[A + 3])
  local found = {}
  if index == '' then -- records are never taken out, so their serials have no gaps
    for n = after + 1, math.min(after + number, tonumber(serial)) do found[#found + 1] = string.format('%d', n) end
  else
    if not whole(index) then return {'lost', 'an index'} end
    found = call('ZRANGEBYSCORE', PREFIX .. 'by:' .. index, string.format('(%d', after), '+inf', 'LIMIT', 0, number)
  end
  return {'ok', revision, found}
end

-- lowest, highest
function commands.expiring()
  if not whole('expiry') then return {'lost', 'an index'} end
  return {'ok', revision, call('ZRANGEBYSCORE', PREFIX .. 'by:expiry', ARGV[A + 1], ARGV[A + 2])}
end

-- indexes...
function commands.sizes()
  local found = {}
  for i = A + 1, #ARGV do
    if not whole(ARGV[i]) then return {'lost', 'an index'} end
    found[#found + 1] = tonumber(call('HGET', PREFIX .. 'sizes', ARGV[i]) or 0)
  end
  return {'ok', revision, found}
end

function commands.indexes() return {'ok', revision, call('HKEYS', PREFIX .. 'sizes')} end

-- root, time, root, time...
function commands.touch()
  for i = A + 1, #ARGV, 2 do
    local of_serial = call('HGET', PREFIX .. 'roots', ARGV[i])
    if of_serial and tonumber(call('HGET', PREFIX .. 'used', of_serial) or 0) < tonumber(ARGV[i + 1]) then
      call('HSET', PREFIX .. 'used', of_serial, ARGV[i + 1])
    end
  end
  return {'ok', revision}
end

-- head, revision, act, line and hash if something is new, line and hash if not, then id and expiry or ''...
function commands.revoke()
  local head, expected, act = unpack(ARGV, A + 1, A + 3)
  local wrong = not_appendable('store', head)
  if wrong then return wrong end
  local new, why = next_revision(expected)
  if why then return why end
  call('ZCARD', PREFIX .. 'expiring') -- of the right type, before anything is written
  local added = 0
  for i = A + 8, #ARGV, 2 do
    if call('HEXISTS', PREFIX .. 'revoked', ARGV[i]) == 0 then
      local place = new .. '-' .. string.format('%d', added)
      local value = place
      if ARGV[i + 1] ~= '' then value = place .. ' ' .. ARGV[i + 1] end
      call('HSET', PREFIX .. 'revoked', ARGV[i], value)
      call('XADD', PREFIX .. 'feed', place, 'id', ARGV[i])
      if ARGV[i + 1] ~= '' then call('ZADD', PREFIX .. 'expiring', ARGV[i + 1], ARGV[i]) end
      added = added + 1
    end
  end
  if added == 0 then
    head = append('store', head, {ARGV[A + 6], ARGV[A + 7]})
    new = revision
  else
    call('HSET', PREFIX .. 'acts', new, act)
    call('HSET', META, 'revision', new)
    head = append('store', head, {ARGV[A + 4], ARGV[A + 5]})
  end
  seal()
  return {'ok', new, head}
end

-- Whether a record of the index is meant and not revoked yet. What an earlier rule without a time means is.
local function means_something(who, before)
  local floor = 0
  for line in string.gmatch(call('HGET', PREFIX .. 'rules', who) or '', '[^\n]+') do
    local up_to, until_ = string.match(line, '^(%d+) (%S+) %d+$')
    if until_ == '-' then floor = math.max(floor, tonumber(up_to)) end
  end
  while true do
    local page = call('ZRANGEBYSCORE', PREFIX .. 'by:' .. who, string.format('(%d', floor), '+inf', 'LIMIT', 0, 500)
    if #page == 0 then return false end
    for _, of_serial in ipairs(page) do
      local text, record = read_record(of_serial)
      if (before == '-' or record.created < tonumber(before)) and described(of_serial)[3] == 0 then return true end
    end
    floor = tonumber(page[#page])
  end
end

-- head, revision, act, line and hash if something is new, line and hash if not, whose, before or '-'
function commands.rule()
  local head, expected, act = unpack(ARGV, A + 1, A + 3)
  local who, before = ARGV[A + 8], ARGV[A + 9]
  local wrong = not_appendable('store', head)
  if wrong then return wrong end
  local new, why = next_revision(expected)
  if why then return why end
  if not whole(who) then return {'lost', 'an index'} end
  if means_something(who, before) then
    local lines = call('HGET', PREFIX .. 'rules', who)
    local line = serial .. ' ' .. before .. ' ' .. new
    call('HSET', PREFIX .. 'rules', who, lines and (lines .. '\n' .. line) or line)
    call('XADD', PREFIX .. 'feed', new .. '-0', 'rule', serial .. ' ' .. before .. ' ' .. who)
    call('HSET', PREFIX .. 'acts', new, act)
    call('HSET', META, 'revision', new)
    head = append('store', head, {ARGV[A + 4], ARGV[A + 5]})
  else
    head = append('store', head, {ARGV[A + 6], ARGV[A + 7]})
    new = revision
  end
  seal()
  return {'ok', new, head}
end

function commands.rules()
  local found = {}
  local all = call('HGETALL', PREFIX .. 'rules')
  for i = 1, #all, 2 do
    for line in string.gmatch(all[i + 1], '[^\n]+') do
      local of_revision = string.match(line, '(%d+)$')
      found[#found + 1] = {all[i], line, call('HGET', PREFIX .. 'acts', of_revision)}
    end
  end
  return {'ok', revision, found}
end

-- first and last entry, number: how many there are, the last one's place, and their ids and rules
function commands.feed()
  local entries = call('XRANGE', PREFIX .. 'feed', ARGV[A + 1], ARGV[A + 2], 'COUNT', ARGV[A + 3])
  local ids, rules = {}, {}
  for _, entry in ipairs(entries) do
    local kind = entry[2][1] == 'id' and ids or rules
    kind[#kind + 1] = entry[2][2]
  end
  return {'ok', revision, #entries, #entries > 0 and entries[#entries][1] or '', ids, rules}
end

-- the same, with the revocation and the act of each id, and of each id only
function commands.revocations()
  local found = {}
  local last = false
  for _, entry in ipairs(call('XRANGE', PREFIX .. 'feed', ARGV[A + 1], ARGV[A + 2], 'COUNT', ARGV[A + 3])) do
    last = entry[1]
    if entry[2][1] == 'id' then
      local of_revision = string.match(entry[1], '^(%d+)')
      found[#found + 1] = {
        entry[1], entry[2][2], call('HGET', PREFIX .. 'revoked', entry[2][2]), call('HGET', PREFIX .. 'acts', of_revision),
      }
    end
  end
  return {'ok', revision, found, last}
end

-- Ids whose tokens have expired, by what is kept with the id itself.
local function prunable(bound)
  local found = {}
  for _, id in ipairs(call('ZRANGEBYSCORE', PREFIX .. 'expiring', '-inf', bound)) do
    local value = call('HGET', PREFIX .. 'revoked', id)
    local place, expires = string.match(value or '', '^(%S+) (%S+)$')
    if expires and tonumber(expires) <= tonumber(bound) then found[#found + 1] = {id, place} end
  end
  return found
end

-- bound
function commands.prunable() return {'ok', revision, #prunable(ARGV[A + 1])} end

-- head, bound, count, line, hash
function commands.prune()
  local head, bound = ARGV[A + 1], ARGV[A + 2]
  local wrong = not_appendable('store', head)
  if wrong then return wrong end
  local dropped = prunable(bound)
  if #dropped ~= tonumber(ARGV[A + 3]) then return {'recount', revision} end
  for _, each in ipairs(dropped) do
    call('HDEL', PREFIX .. 'revoked', each[1])
    call('XDEL', PREFIX .. 'feed', each[2])
    call('ZREM', PREFIX .. 'expiring', each[1])
  end
  head = append('store', head, {ARGV[A + 4], ARGV[A + 5]})
  seal()
  return {'ok', revision, head}
end

-- writer, head, lines and hashes...
function commands.note()
  local writer, head = ARGV[A + 1], ARGV[A + 2]
  local wrong = not_appendable(writer, head)
  if wrong then return wrong end
  local lines = {}
  for i = A + 3, #ARGV do lines[#lines + 1] = ARGV[i] end
  head = append(writer, head, lines)
  seal()
  return {'ok', revision, head}
end

-- Each writer, its head, and the number of the last line that its stream holds.
local function ends()
  local found = {}
  local all = call('HGETALL', PREFIX .. 'heads')
  for i = 1, #all, 2 do
    local last = call('XREVRANGE', PREFIX .. 'audit:' .. all[i], '+', '-', 'COUNT', 1)[1]
    found[#found + 1] = {all[i], all[i + 1], last and last[1] or '0-0'}
  end
  return found
end

function commands.heads() return {'ok', revision, ends()} end

-- What there is at this moment: the number of records, rules, ids and lines.
function commands.moment()
  local rules, lines = 0, 0
  for _, all in ipairs(call('HVALS', PREFIX .. 'rules')) do
    for _ in string.gmatch(all, '[^\n]+') do rules = rules + 1 end
  end
  for _, writer in ipairs(call('HKEYS', PREFIX .. 'heads')) do lines = lines + call('XLEN', PREFIX .. 'audit:' .. writer) end
  return {'ok', revision, tonumber(serial), rules, call('HLEN', PREFIX .. 'revoked'), lines, ends()}
end

-- prefix of what was prepared there, revision, serial, end of the chain, line, hash
function commands.adopt()
  local from, head = ARGV[A + 1], ARGV[A + 4]
  if revision ~= '0' or serial ~= '0' or call('HLEN', PREFIX .. 'heads') > 0 then return {'filled', revision} end
  local function take(name)
    if call('EXISTS', from .. name) == 1 then call('RENAME', from .. name, PREFIX .. name) end
  end
  for _, index in ipairs(call('HKEYS', from .. 'sizes')) do take('by:' .. index) end
  for _, writer in ipairs(call('HKEYS', from .. 'heads')) do take('audit:' .. writer) end
  for _, name in ipairs({'feed', 'used', 'expiring', unpack(COUNTED)}) do take(name) end
  call('HSET', META, 'revision', ARGV[A + 2], 'serial', ARGV[A + 3])
  head = append('store', head, {ARGV[A + 5], ARGV[A + 6]})
  seal()
  return {'ok', ARGV[A + 2], head}
end

-- writer, first and last entry, number
function commands.audit()
  local key = PREFIX .. 'audit:' .. ARGV[A + 1]
  local found = {}
  for _, entry in ipairs(call('XRANGE', key, ARGV[A + 2], ARGV[A + 3], 'COUNT', ARGV[A + 4])) do
    found[#found + 1] = {entry[1], entry[2][2], entry[2][4]}
  end
  return {'ok', revision, found}
end

-- An error in the middle of a script does not undo what it has done, so rights are looked at before.
local WRITES = {register = true, revoke = true, rule = true, prune = true, note = true, adopt = true}
if WRITES[COMMAND] and redis.acl_check_cmd then
  local may = redis.acl_check_cmd('HSET', META, 'x', 'x')
    and redis.acl_check_cmd('HDEL', PREFIX .. 'revoked', 'x')
    and redis.acl_check_cmd('HINCRBY', PREFIX .. 'sizes', 'x', 1)
    and redis.acl_check_cmd('ZADD', PREFIX .. 'expiring', 1, 'x')
    and redis.acl_check_cmd('ZREM', PREFIX .. 'expiring', 'x')
    and redis.acl_check_cmd('XADD', PREFIX .. 'feed', '*', 'x', 'x')
    and redis.acl_check_cmd('XDEL', PREFIX .. 'feed', '1-0')
    and redis.acl_check_cmd('RENAME', PREFIX .. 'feed', PREFIX .. 'feed')
  if not may then return {'denied'} end
end

return commands[COMMAND]()
