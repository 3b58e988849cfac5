-- Repeats requests for a challenger that no user meets: a filter copies request and answer on their
-- way through the backend `shadowed`, and hands both to the shadow worker once the user has been
-- answered. Nothing here waits while a user does, and nothing here can fail an answer.
--
-- What is copied is bounded, by number and by bytes. Whatever cannot be repeated is counted, with a
-- reason, and the counts are told to the worker too: each shadowed request becomes one pair or one
-- counted drop. `serving/edge/shadow/wire.py` reads what is sent here, and says what it means.
--
-- Arguments: the worker's socket; how many requests are repeated at once; how many may wait; bytes
-- of all copies together; bytes of one body.

local socket_path, at_once, most_waiting, most_bytes, most_body = ...
at_once, most_waiting = tonumber(at_once), tonumber(most_waiting)
most_bytes, most_body = tonumber(most_bytes), tonumber(most_body)

local NONE = '-'
local RETRY_MS = 200
local TELL_MS = 200
local PATIENCE_SECONDS = 30
-- A worker that died this often over one request is not given it again.
local TRIES = 3
-- A challenger is not asked what users wanted to know so long ago.
local STALE_SECONDS = 60

local function seconds()
    local now = core.now()
    return now.sec + now.usec / 1000000
end

-- ---- what waits for the worker

local waiting = core.queue()
local held = 0
local dropped = {}

-- Messages have names that no other HAProxy, before or after this one, gives: the worker takes one
-- that it is sent twice for one.
local made = 0
local life
local function name()
    if life == nil then
        local now = core.now()
        life = string.format('%x%05x', now.sec, now.usec)
    end
    made = made + 1
    return life .. '-' .. made
end

-- `about`: at, model, experiment, stage and version, between tabs.
local function drop(about, reason)
    local at, whose = about:match('^(%d+)\t(.*)$')
    local counted = dropped[whose]
    if counted == nil then
        counted = {at = at, reasons = {}}
        dropped[whose] = counted
    end
    counted.reasons[reason] = (counted.reasons[reason] or 0) + 1
end

local function drops(id, about, reason, count)
    return {id = id, about = about, parts = {table.concat({'drop', id, about, count, reason}, '\t') .. '\n'}}
end

-- ---- the copy

-- An error in a filter would break an answer off.
local function harmless(step)
    return function(self, ...)
        local fine, problem = pcall(step, self, ...)
        if not fine then
            core.Alert('shadow: ' .. tostring(problem))
            self:give_up('error')
        end
    end
end

-- Both channels are to be told of the end of what passes through them.
local function follow(self, _, channel)
    filter.register_data_filter(self, channel)
end

local Shadow = {flags = filter.FLT_CFG_FL_HTX}
Shadow.__index = Shadow

function Shadow.new()
    return setmetatable({bytes = 0, request = {bytes = 0}, answer = {bytes = 0}}, Shadow)
end

-- For a reason that is not the first, nothing more is to be done.
function Shadow:give_up(reason)
    self.reason = self.reason or reason
    held = held - self.bytes
    self.bytes, self.request, self.answer = 0, nil, nil
end

-- Says whether there is room for so many bytes more, and takes it.
function Shadow:takes(bytes)
    if held + bytes > most_bytes then
        self:give_up('queue_full')
        return false
    end
    self.bytes, held = self.bytes + bytes, held + bytes
    return true
end

-- Says whether there is anything left to copy.
function Shadow:is_copying()
    return self.reason == nil and not self.finished
end

local function head(headers)
    local lines = {}
    for field, values in pairs(headers) do
        for place = 0, #values do
            if values[place] then
                lines[#lines + 1] = field .. ': ' .. values[place] .. '\r\n'
            end
        end
    end
    return table.concat(lines)
end

local function header(headers, field)
    return headers[field] and headers[field][0] or ''
end

function Shadow:began(txn, message)
    local headers, line = message:get_headers(), message:get_stline()
    local answers = message.channel:is_resp()
    if (tonumber(header(headers, 'content-length')) or 0) > most_body then
        self:give_up(answers and 'answer_too_large' or 'body_too_large')
    elseif header(headers, 'content-type'):find('^text/event%-stream') then
        self:give_up('streamed')
    elseif not answers then
        self.request.path, self.request.head = line.uri, head(headers)
        self:takes(#line.uri + #self.request.head)
    else
        self.answer.head = head(headers)
        self:takes(#self.answer.head)
        -- An answer of the version that it fell back to says nothing about the champion.
        self.status = txn.f:srv_name() == 'failover' and -1 or math.tointeger(tonumber(line.code))
    end
end

function Shadow:copy(message)
    local piece = message:body()
    if piece == nil or piece == '' then
        return
    end
    local answers = message.channel:is_resp()
    local into = answers and self.answer or self.request
    into.bytes = into.bytes + #piece
    if into.bytes > most_body then
        self:give_up(answers and 'answer_too_large' or 'body_too_large')
    elseif self:takes(#piece) then
        into[#into + 1] = piece
    end
end

function Shadow:ended(message)
    if message.channel:is_resp() then
        self.took = (seconds() - self.sent) * 1000
    else
        self.sent = seconds()
    end
end

local function pair(self, about, slot, deadline)
    local id = name()
    local request, answer = table.concat(self.request), table.concat(self.answer)
    local path, fields = self.request.path, self.request.head
    local line = table.concat({
        'pair', id, about, slot, deadline, self.status, string.format('%.3f', self.took),
        #path, #fields, #request, #self.answer.head, #answer,
    }, '\t') .. '\n'
    return {
        id = id, about = about, bytes = self.bytes, since = seconds(), patience = deadline / 1000,
        parts = {line .. path .. fields, request, self.answer.head .. answer},
    }
end

-- Where a champion gives nothing that could be passed on, HAProxy answers itself, and no filter sees
-- that: its status is all there is.
function Shadow:is_complete(txn)
    local answered = txn:get_var('txn.shadow_status')
    if answered == 429 then
        self:give_up('turned_away')
    elseif self.reason == nil and self.sent and self.status == nil and answered then
        self.status, self.answer.head, self.took = answered, '', (seconds() - self.sent) * 1000
    end
    return self.took ~= nil
end

local hand_over = harmless(function(self, txn, about, slot, deadline)
    if not self:is_complete(txn) then
        self:give_up('unfinished')
    elseif waiting:size() >= most_waiting then
        self:give_up('queue_full')
    else
        -- The bytes are the message's from now on.
        waiting:push(pair(self, about, slot, deadline))
        self.bytes, self.request, self.answer = 0, nil, nil
    end
end)

Shadow.start_analyze = harmless(follow)

Shadow.http_headers = harmless(function(self, txn, message)
    if self:is_copying() then
        self:began(txn, message)
    end
end)

Shadow.http_payload = harmless(function(self, _, message)
    if self:is_copying() then
        self:copy(message)
    end
end)

Shadow.http_end = harmless(function(self, _, message)
    if self:is_copying() then
        self:ended(message)
    end
end)

Shadow.end_analyze = harmless(function(self, txn, channel)
    if not channel:is_resp() or self.finished then
        return
    end
    self.finished = true
    local whose, slot, deadline = txn:get_var('txn.shadow'):match('^(.+)\t([^\t]+)\t([^\t]+)$')
    local about = table.concat({txn:get_var('txn.at'), txn:get_var('txn.model'), whose}, '\t')
    hand_over(self, txn, about, slot, deadline)
    if self.reason then
        drop(about, self.reason)
    end
end)

core.register_filter('shadow', Shadow, function(class) return class end)

-- ---- the challenger's time

-- Milliseconds by the name of what is repeated, while the worker has it; false until they are known.
local took = {}

local Repeated = {flags = filter.FLT_CFG_FL_HTX}
Repeated.__index = Repeated

function Repeated.new()
    return setmetatable({}, Repeated)
end

function Repeated:give_up()
    self.sent = nil
end

local function take_time(self, txn)
    local repeats = txn:get_var('txn.repeats')
    if self.sent and took[repeats] ~= nil then
        took[repeats] = (seconds() - self.sent) * 1000
    end
    self.sent = nil
end

Repeated.start_analyze = harmless(follow)

Repeated.http_end = harmless(function(self, txn, message)
    if message.channel:is_resp() then
        take_time(self, txn)
    else
        self.sent = seconds()
    end
end)

-- An answer that did not come, or broke off, has no end.
Repeated.end_analyze = harmless(function(self, txn, channel)
    if channel:is_resp() then
        take_time(self, txn)
    end
end)

core.register_filter('repeated', Repeated, function(class) return class end)

-- ---- on its way to the worker

local function connected()
    local socket = core.tcp()
    local fine, done = pcall(socket.connect, socket, 'unix@' .. socket_path)
    if fine and done then
        return socket
    end
    socket:close()
    return nil
end

-- Says whether the worker has put it down. Before it does, it may ask how long the challenger took.
-- Raises an error where HAProxy has closed the socket.
local function sent(socket, message)
    socket:settimeout(math.ceil(PATIENCE_SECONDS + (message.patience or 0)))
    for _, part in ipairs(message.parts) do
        if part ~= '' and socket:send(part) ~= #part then
            return false
        end
    end
    local answer = socket:receive('*l')
    if answer == 'took' then
        local line = (took[message.id] and string.format('%.3f', took[message.id]) or NONE) .. '\n'
        answer = socket:send(line) == #line and socket:receive('*l')
    end
    return answer == message.id
end

-- Returns the connection for what comes next. A message that may have arrived is never sent under
-- another name, so what becomes of it is put down once.
local function deliver(socket, message)
    local tries = 0
    while true do
        if message.since and (tries == TRIES or seconds() - message.since > STALE_SECONDS) then
            local reason = tries > 0 and 'worker_failed' or 'stale'
            held = held - message.bytes
            message = drops(message.id, message.about, reason, 1)
        end
        socket = socket or connected()
        if socket then
            took[message.id] = false
            local fine, done = pcall(sent, socket, message)
            took[message.id] = nil
            if fine and done then
                held = held - (message.bytes or 0)
                return socket
            end
            socket:close()
            socket, tries = nil, tries + 1
        end
        core.msleep(RETRY_MS)
    end
end

for _ = 1, at_once do
    core.register_task(function()
        local socket
        while true do
            socket = deliver(socket, waiting:pop_wait())
            -- Idle connections time out, and keep a HAProxy that is to end from ending.
            if waiting:size() == 0 then
                socket:close()
                socket = nil
            end
        end
    end)
end

core.register_task(function()
    while true do
        core.msleep(TELL_MS)
        local counted = dropped
        dropped = {}
        for whose, found in pairs(counted) do
            for reason, count in pairs(found.reasons) do
                local about = found.at .. '\t' .. whose
                deliver(nil, drops(name(), about, reason, count)):close()
            end
        end
    end
end)
