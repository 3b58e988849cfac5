-- The string or number at a path into a body: the same as experiments/json_path.py, which says what
-- is found and what is not. HAProxy's own json_query rounds large numbers and gives up on letters
-- beyond Latin-1.

local byte, char, find, match, sub = string.byte, utf8.char, string.find, string.match, string.sub

local BACKSLASH = byte('\\')
local MOST_STEPS = 1024
local MEANT = {
    ['"'] = '"', ['\\'] = '\\', ['/'] = '/', b = '\b', f = '\f', n = '\n', r = '\r', t = '\t',
}

-- How many more steps the way to a value may take. A body may not keep the edge busy, whatever is in it.
local left = 0

local function behind_blanks(body, at)
    return match(body, '^[ \t\n\r]*()', at)
end

-- Returns where the string that begins at `at` has ended; nil if it does not.
local function string_end(body, at)
    local quote, escapes = at, 0
    repeat
        quote = find(body, '"', quote + 1, true)
        if quote == nil then
            return nil
        end
        escapes = 0
        while byte(body, quote - escapes - 1) == BACKSLASH and escapes <= left do
            escapes = escapes + 1
        end
        left = left - escapes - 1
        if left < 0 then
            return nil
        end
    until escapes % 2 == 0
    return quote + 1
end

-- A list, or an object, as long as there is no text in it; and what closes it.
local BALANCED = {['['] = '^%b[]()', ['{'] = '^%b{}()'}
local CLOSING = {['['] = ']', ['{'] = '}'}

-- Returns where the list or object that begins at `at` is closed. Looking for one character is as fast
-- as memory, looking for any of several is not: so where each comes next is remembered. A stretch
-- without text is left behind at once, if all that is opened in it is also closed in it.
local function nested_end(body, at)
    local opening, beyond = sub(body, at, at), #body + 1
    local closing, depth = CLOSING[opening], 0
    local quote, open, close, tried = 0, 0, 0, nil
    repeat
        if quote < at then
            quote = find(body, '"', at, true) or beyond
        end
        if open < at then
            open = find(body, opening, at, true) or beyond
        end
        if close < at then
            close = find(body, closing, at, true) or beyond
        end
        left = left - 1
        if left < 0 then
            return nil
        elseif quote < open and quote < close then
            at = string_end(body, quote)
            if at == nil then
                return nil
            end
        elseif open < close then
            local length = tried ~= quote and match(sub(body, open, quote - 1), BALANCED[opening])
            tried = quote
            if length then
                at = open + length - 1
            else
                depth, at = depth + 1, open + 1
            end
        elseif close < beyond then
            depth, at = depth - 1, close + 1
        else
            return nil
        end
    until depth <= 0
    return at
end

local function value_end(body, at)
    local first = sub(body, at, at)
    if first == '"' then
        return string_end(body, at)
    elseif first == '{' or first == '[' then
        return nested_end(body, at)
    end
    return match(body, '^[^,%[%]{}": \t\n\r]+()', at)
end

-- Returns the character that `\u` at `at` stands for, and where it has ended; nil if for none.
local function unicode(raw, at)
    local digits = match(raw, '^\\u(%x%x%x%x)', at)
    local code = digits and tonumber(digits, 16)
    if code == nil or code >= 0xDC00 and code < 0xE000 then
        return nil
    elseif code < 0xD800 or code >= 0xE000 then
        return char(code), at + 6
    end
    digits = match(raw, '^\\u([dD][c-fC-F]%x%x)', at + 6)
    if digits == nil then
        return nil
    end
    return char(0x10000 + (code - 0xD800) * 0x400 + tonumber(digits, 16) - 0xDC00), at + 12
end

-- Returns what a string means; nil if an escape means nothing.
local function meant(raw)
    local escape = find(raw, '\\', 1, true)
    if escape == nil then
        return raw
    end
    local parts, at = {}, 1
    while escape ~= nil do
        parts[#parts + 1] = sub(raw, at, escape - 1)
        local text = MEANT[sub(raw, escape + 1, escape + 1)]
        at = escape + 2
        if text == nil then
            text, at = unicode(raw, escape)
        end
        if text == nil then
            return nil
        end
        parts[#parts + 1] = text
        escape = find(raw, '\\', at, true)
    end
    parts[#parts + 1] = sub(raw, at)
    return table.concat(parts)
end

-- Returns where the value of a field begins; nil if there is no such field.
local function in_object(body, at, name)
    if sub(body, at, at) ~= '{' then
        return nil
    end
    repeat
        at = behind_blanks(body, at + 1)
        local stop = sub(body, at, at) == '"' and string_end(body, at)
        if not stop then
            return nil
        end
        local found = meant(sub(body, at + 1, stop - 2)) == name
        at = match(body, '^[ \t\n\r]*:[ \t\n\r]*()', stop)
        if at == nil or found then
            return at
        end
        local behind = value_end(body, at)
        at = behind and behind_blanks(body, behind)
    until at == nil or sub(body, at, at) ~= ','
    return nil
end

-- Returns where the value at a place in a list, counted from 0, begins; nil if the list ends before.
local function in_list(body, at, place)
    if sub(body, at, at) ~= '[' then
        return nil
    end
    at = behind_blanks(body, at + 1)
    for _ = 1, place do
        local behind = value_end(body, at)
        at = behind and match(body, '^[ \t\n\r]*,[ \t\n\r]*()', behind)
        left = left - 1
        if at == nil or left < 0 then
            return nil
        end
    end
    return at
end

local json_path = {}

-- Reads a path such as `$.parameters.user` or `$.inputs[0].data[0]`.
function json_path.parse(path)
    local steps = {}
    for sign, step in path:gmatch('([.%[])([%w_-]+)') do
        steps[#steps + 1] = sign == '.' and step or tonumber(step)
    end
    return steps
end

-- Returns the text of the string or number at the end of a path; nil if there is none.
function json_path.value(body, steps)
    left = MOST_STEPS
    local at = behind_blanks(body, 1)
    for _, step in ipairs(steps) do
        local inside = type(step) == 'number' and in_list or in_object
        at = inside(body, at, step)
        if at == nil then
            return nil
        end
    end
    if sub(body, at, at) == '"' then
        local stop = string_end(body, at)
        return stop and meant(sub(body, at + 1, stop - 2))
    end
    local number, delimiter = match(body, '^(%-?%d[-+.%deE]*)(.?)', at)
    return match(delimiter or '?', '^[,%]} \t\n\r]?$') and number
end

return json_path
