-- Until when challengers may be met here, where that ends with the edge's lease (the partition policy
-- `champion`). The agent says so on the admin socket after each heartbeat; one that hangs or is dead
-- says nothing, and then nobody is sent to a challenger any more.

local lease = {}

-- Nil where challengers may be met for ever.
local ends, ends_by_the_clock

-- HAProxy starts with the map that the last agent left, however long ago.
function lease.begin_over()
    ends, ends_by_the_clock = 0, 0
end

function lease.is_over()
    if ends == nil then
        return false
    end
    local now = core.now()
    -- HAProxy's own time never jumps, not even where the machine or HAProxy was suspended: then it is
    -- the machine's that tells. That one is in whole seconds.
    return now.sec + now.usec / 1e6 >= ends or os.time() > ends_by_the_clock
end

core.register_cli({'lease', 'now'}, 'lease now : the moment, for `lease from`', function(applet)
    local now = core.now()
    applet:send(string.format('%d.%06d %d\n', now.sec, now.usec, os.time()))
end)

local FROM = 'lease from <now> <clock> <seconds> : let challengers be met for so long from a moment on'
core.register_cli({'lease', 'from'}, FROM, function(applet, _, _, now, clock, seconds)
    now, clock, seconds = tonumber(now), tonumber(clock), tonumber(seconds)
    if now and clock and seconds then
        ends, ends_by_the_clock = now + seconds, clock + seconds + 1
    else
        applet:send('these are no numbers\n')
    end
end)

core.register_cli({'lease', 'off'}, 'lease off : let challengers be met for ever', function()
    ends = nil
end)

return lease
