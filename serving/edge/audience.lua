-- Who can meet a challenger: the same as experiments/audience.py, which says why.

local match = string.match

local HOLDS = {
    above = function(one, other) return one > other end,
    at_least = function(one, other) return one >= other end,
    at_most = function(one, other) return one <= other end,
    below = function(one, other) return one < other end,
}

-- Lua takes more for a number than people do: hexadecimal digits, exponents, infinities.
local function number(text)
    local whole, rest = match(text or '', '^%-?(%d+)(.*)$')
    if whole == nil or #whole > 15 or #rest > 16 or not (rest == '' or match(rest, '^%.%d+$')) then
        return nil
    end
    return tonumber(text)
end

local function among(header, values, others, unquoted)
    local known = {}
    for value in (values .. ','):gmatch('([^,]*),') do
        known[unquoted(value)] = true
    end
    return function(txn)
        return (known[txn.f:req_fhdr(header, -1) or ''] or false) ~= others
    end
end

local function compared(header, holds, bound)
    return function(txn)
        local value = number(txn.f:req_fhdr(header, -1))
        return value ~= nil and holds(value, bound)
    end
end

local audience = {}

-- Returns a function of the transaction that says whether its request is of the audience.
--   text      as written in the map; `-` for everybody
--   unquoted  decodes what is percent-encoded
function audience.parse(text, unquoted)
    local conditions = {}
    for header, word, operand in text:gmatch('([^:;]+):([^:;]+):([^:;]*)') do
        if HOLDS[word] then
            conditions[#conditions + 1] = compared(header, HOLDS[word], tonumber(operand))
        else
            conditions[#conditions + 1] = among(header, operand, word == 'not_in', unquoted)
        end
    end
    return function(txn)
        for _, holds in ipairs(conditions) do
            if not holds(txn) then
                return false
            end
        end
        return true
    end
end

return audience
