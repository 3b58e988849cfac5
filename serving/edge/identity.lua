-- Which unit a request names: the same as experiments/identity.py, which says why.

local json_path = require('json_path')

local byte, find, gmatch, match, sub = string.byte, string.find, string.gmatch, string.match, string.sub

local MAX_UNIT_BYTES = 256
local MOST_PARTS = 256
local BLANK, TAB, QUOTE = byte(' '), byte('\t'), byte('"')

-- Returns a value without the blanks around it.
local function bare(value)
    local first = find(value, '[^ \t]')
    if first == nil then
        return ''
    end
    local last = #value
    while byte(value, last) == BLANK or byte(value, last) == TAB do
        last = last - 1
    end
    return first == 1 and last == #value and value or sub(value, first, last)
end

local function decoded(text)
    if find(text, '[%%+]') == nil then
        return text
    end
    text = text:gsub('+', ' ')
    return (text:gsub('%%(%x%x)', function(hex) return string.char(tonumber(hex, 16)) end))
end

local function cookie_value(line, name)
    local left = MOST_PARTS
    for crumb in gmatch(line, '[^;]+') do
        left = left - 1
        if left < 0 then
            return nil
        end
        local equals = find(crumb, '=', 1, true)
        if equals ~= nil and bare(sub(crumb, 1, equals - 1)) == name then
            local value = bare(sub(crumb, equals + 1))
            local is_quoted = #value >= 2 and byte(value) == QUOTE and byte(value, -1) == QUOTE
            return is_quoted and sub(value, 2, -2) or value
        end
    end
end

-- The JSON of a body, if HAProxy has all of it: what comes before the bytes of tensors, where such
-- follow, or else all of a body that it can also try a second time.
local function json_part(txn, longest)
    local length = txn.f:req_fhdr('inference-header-content-length', -1)
    if length == nil then
        length = txn.f:req_body_size()
    elseif #length > 9 or not match(length, '^%d+$') then
        return nil
    end
    length = tonumber(length)
    if length > longest then
        return nil
    end
    local body = txn.f:req_body()
    if body == nil or #body < length then
        return nil
    end
    return #body == length and body or sub(body, 1, length)
end

-- For each kind of unit: from what its declaration names to a function of the transaction.
local KINDS = {}

function KINDS.header(name)
    return function(txn)
        return txn.f:req_fhdr(name, -1)
    end
end

function KINDS.cookie(name)
    return function(txn)
        local line = txn.f:req_fhdr('cookie', -1)
        return line and find(line, name, 1, true) and cookie_value(line, name)
    end
end

function KINDS.query(name)
    return function(txn)
        local left = MOST_PARTS
        for pair in gmatch(txn.f:query() or '', '[^&]+') do
            left = left - 1
            if left < 0 then
                return nil
            end
            local equals = find(pair, '=', 1, true) or #pair + 1
            if decoded(sub(pair, 1, equals - 1)) == name then
                return decoded(sub(pair, equals + 1))
            end
        end
    end
end

function KINDS.json(path, longest)
    local steps = json_path.parse(path)
    return function(txn)
        local body = json_part(txn, longest)
        return body and json_path.value(body, steps)
    end
end

local identity = {}

-- Returns a function of the transaction, which returns the unit that the request names, nil if it
-- names none; or nil and why it is refused.
--   unit     as written in the map
--   longest  bytes of a body that HAProxy has before it routes the request
function identity.reader(unit, longest)
    local kind, name = match(unit, '^(%l+):(.+)$')
    local make = KINDS[kind]
    if make == nil then
        return function() end
    end
    local read = make(name, longest)
    return function(txn)
        local found = read(txn)
        if not found then
            return nil
        end
        found = bare(found)
        if found == '' then
            return nil, 'unit_empty'
        elseif #found > MAX_UNIT_BYTES then
            return nil, 'unit_too_long'
        end
        return found
    end
end

return identity
