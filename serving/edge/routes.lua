-- A model's route, from its value in the map: fields between `|`, see serving.routes.map_value. All
-- that is the same for each of its requests is made here, once.

local audience = require('audience')
local identity = require('identity')

local NONE = '-'
local WHOLE = 10000

-- Four fields for the route, then these for each trial.
local HEAD = 4
local TRIAL = {
    'experiment', 'stage', 'control', 'challengers', 'floor', 'cut', 'deadline', 'unit', 'segments',
    'audience', 'layer', 'mode', 'budget', 'salt',
}

local MARKS = {champion = 'c', challenger = 't', veteran = 'v'}

local function unquoted(text)
    return (text:gsub('%%(%x%x)', function(hex) return string.char(tonumber(hex, 16)) end))
end

-- Everything about one side of a route that is the same for each of its requests.
local function side(model, version, fallback, trial, variant)
    local experiment, stage = trial.experiment or NONE, trial.stage or NONE
    return {
        version = version,
        -- Where the hosts are; which of their calls it is, haproxy.cfg adds.
        path = '/hosts/' .. model .. '/' .. version,
        fallback = '/hosts/' .. model .. '/' .. fallback,
        variant = variant,
        token = table.concat({model, version, experiment, stage, MARKS[variant] or NONE, ''}, '.'),
    }
end

-- One for each challenger: what its units meet, below the floor and above it. A challenger that was
-- dropped has a minus before its version: its units belong to the control.
local function lanes(model, challengers, control, behind, trial)
    local found = {}
    for dropped, version in challengers:gmatch('(%-?)(%d+)') do
        local lane = {}
        if dropped == '' then
            lane.challenger = side(model, version, control, trial, 'challenger')
            -- Served like any challenger's; only who counts sees the difference.
            lane.veteran = side(model, version, control, trial, 'veteran')
            lane.challenger.on_trial, lane.veteran.on_trial = trial, trial
            lane.shadow = table.concat({trial.experiment, trial.stage, version}, '\t')
        else
            lane.dropped = side(model, control, behind, trial, 'veteran')
        end
        found[#found + 1] = lane
    end
    return found
end

-- The values of a header, `header:value,value`, by name.
local function parse_segments(trial, segments)
    local header, values = segments:match('^([^:]+):(.+)$')
    if header == nil then
        return
    end
    local count = 0
    trial.segment_header, trial.segments = header, {}
    for value in values:gmatch('[^,]+') do
        count = count + 1
        trial.segments[value] = count
    end
end

local function split(value)
    local fields = {}
    for field in (value .. '|'):gmatch('([^|]*)|') do
        fields[#fields + 1] = field
    end
    return fields
end

-- Returns the trial whose fields begin after the `at`th; nil if they are none.
local function parse_trial(model, fields, at, route, behind)
    local named = {}
    for place, name in ipairs(TRIAL) do
        named[name] = fields[at + place]
    end
    local control = named.control
    -- While some units are held back from the new champion, it answers for the old one.
    behind = control == route.version and behind or route.version
    local layer, low, high = named.layer:match('^(.+):(%d+)%-(%d+)$')
    local trial = {
        experiment = named.experiment,
        stage = named.stage,
        floor = tonumber(named.floor),
        cut = tonumber(named.cut),
        budget = tonumber(named.budget),
        deadline = tonumber(named.deadline),
        unit = named.unit,
        prefix = unquoted(named.salt) .. '/',
        admits = named.audience ~= NONE and audience.parse(named.audience, unquoted) or nil,
        layer = layer,
        low = tonumber(low),
        high = tonumber(high),
        is_shadow = named.mode == 'shadow',
    }
    trial.champion = side(model, control, behind, trial, 'champion')
    trial.lanes = lanes(model, named.challengers, control, behind, trial)
    parse_segments(trial, named.segments)
    return #trial.lanes > 0 and trial or nil
end

local function serve(route, trial)
    route.serves[trial.champion.version] = true
    for _, lane in ipairs(trial.is_shadow and {} or trial.lanes) do
        if lane.challenger then
            route.serves[lane.challenger.version] = true
            route.on_trial[lane.challenger.version] = trial
        end
    end
end

local routes = {}

-- The same as `serving.routes.control_only`, of a value of the map that has a trial.
function routes.control_only(value)
    local fields = split(value)
    local epoch, champion, previous, holdout = table.unpack(fields, 1, HEAD)
    local control = fields[HEAD + 3]
    previous = control == champion and previous or NONE
    return table.concat({epoch, control, previous, holdout}, '|')
end

-- Returns what a value of the map says of a model; nil if it cannot be read.
--   longest  bytes of a body that HAProxy has before it routes the request
function routes.parse(model, value, longest)
    local fields = split(value)
    local trials = (#fields - HEAD) / #TRIAL
    if trials < 0 or trials % 1 ~= 0 then
        return nil
    end
    local epoch, champion, previous, holdout = table.unpack(fields, 1, HEAD)
    -- A champion without a version to fall back to is simply asked again.
    local behind = previous == NONE and champion or previous
    local route = {value = value, epoch = epoch, version = champion, trials = {}}
    -- Whose answers are given to users, and who of them is on trial; who else may stand in for the
    -- champion; and what the champion's hosts are counted under.
    route.serves, route.on_trial = {[champion] = true}, {}
    route.behind, route.host = behind, model .. '/' .. champion
    route.champion = side(model, champion, behind, {}, nil)
    route.holdout = tonumber(holdout)
    route.holdout_prefix = 'holdout/' .. model .. '/'
    for number = 1, trials do
        local trial = parse_trial(model, fields, HEAD + (number - 1) * #TRIAL, route, behind)
        local first = route.trials[1] or trial
        -- Several divide the units of one layer among them.
        local apart = trial and trial.unit == first.unit and trial.layer == first.layer
        if not apart or number > 1 and trial.layer == nil then
            return nil
        end
        route.trials[number] = trial
        route.has_budget = route.has_budget or trial.budget < WHOLE
        serve(route, trial)
    end
    -- In a holdback the champion is on trial, and so for those too who are not counted.
    route.champion.on_trial = route.on_trial[champion]
    local first = route.trials[1]
    if first ~= nil then
        route.unit = identity.reader(first.unit, longest)
        route.layer_prefix = first.layer and 'layer/' .. first.layer .. '/'
    end
    return route
end

return routes
