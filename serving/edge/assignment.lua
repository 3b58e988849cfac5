-- Which version a request meets: the same as experiments/assignment.py, bit for bit.

local BUCKETS = 10000
local SLOTS = 1 << 22
local NONE = '-'

-- Nothing that is told from one of these hashes says anything about another.
local BUCKET_SEED, SLOT_SEED, LANE_SEED, LAYER_SEED, HOLDOUT_SEED = 0, 1, 2, 3, 4

-- Returns the trial that a unit's request is in, if any.
local function trial_of(txn, route, unit)
    local xxh32, converters = txn.c.xxh32, txn.c
    if route.holdout > 0 then
        local bucket = xxh32(converters, route.holdout_prefix .. unit, HOLDOUT_SEED) % BUCKETS
        if bucket < route.holdout then
            return nil
        end
    end
    local found = route.trials[1]
    if route.layer_prefix then
        local bucket = xxh32(converters, route.layer_prefix .. unit, LAYER_SEED) % BUCKETS
        found = nil
        for _, trial in ipairs(route.trials) do
            if bucket >= trial.low and bucket < trial.high then
                found = trial
            end
        end
    end
    if found and found.admits and not found.admits(txn) then
        return nil
    end
    return found
end

-- Returns the lane of a unit that meets its challenger, and whether it is no veteran; nil for a unit
-- that does not.
local function lane_of(txn, trial, keyed)
    local bucket = txn.c:xxh32(keyed, BUCKET_SEED) % BUCKETS
    if bucket >= trial.cut then
        return nil
    end
    local lanes = trial.lanes
    local lane = lanes[#lanes == 1 and 1 or txn.c:xxh32(keyed, LANE_SEED) % #lanes + 1]
    return lane, bucket >= trial.floor
end

local assignment = {}

-- Returns the side of the route that a request belongs to, the trial in which it is counted, if in
-- any, and its slot; if a copy of it is for a challenger, also whose. Or nil, and why the request is
-- refused.
function assignment.assign(txn, route)
    if route.unit == nil then
        return route.champion, nil, NONE
    end
    local unit, refused = route.unit(txn)
    if refused then
        return nil, refused
    end
    local named = unit ~= nil
    -- A request that names no unit is one of its own.
    unit = unit or txn:get_var('txn.nonce')
    local trial = trial_of(txn, route, unit)
    if trial == nil then
        return route.champion, nil, NONE
    end
    local keyed = trial.prefix .. unit
    local slot = named and txn.c:xxh32(keyed, SLOT_SEED) % SLOTS or NONE
    local lane, is_new = lane_of(txn, trial, keyed)
    if trial.is_shadow then
        local shadow = lane and lane.shadow and table.concat({lane.shadow, slot, trial.deadline}, '\t')
        return route.champion, nil, NONE, shadow
    elseif lane == nil then
        return trial.champion, trial, slot
    end
    return lane.dropped or is_new and lane.challenger or lane.veteran, trial, slot
end

-- Returns which of the declared segments the request is in; 0 if in none.
function assignment.segment(txn, trial)
    local value = trial and trial.segment_header and txn.f:req_fhdr(trial.segment_header, -1)
    return value and trial.segments[value] or 0
end

return assignment
