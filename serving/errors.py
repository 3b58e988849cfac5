"""What can go wrong in the running system.

TiltyardError
├── HostsUnavailable         Ray cannot be reached, or does not do what it is asked
├── AlreadyDeployed          the version is deployed, or on its way, just as asked
├── MalformedRequest         a body that is no Open Inference Protocol request
├── UnsupportedMediaType     a body in a form or an encoding that is not read here
├── NotStreaming             the model answers at once, or not at all
├── ModelFailed              the model raised on an input that its signature allows
├── InvalidOutput            the model gave something that no answer can carry
├── NothingToRollBack        the model has neither a trial nor a previous version
├── EdgeUnavailable          an edge's HAProxy or agent does not answer on its socket
│   ├── EdgeStopped          HAProxy does not run; it reads its map file when it starts
│   └── EdgeUnresponsive     HAProxy runs, or may run, and did not do what it was asked
├── UnusableEdgeFolder       the edge cannot keep its files where the settings say
├── UnreadableLogLine        a line of an edge's request log is damaged
├── JustRolledBack           the model was rolled back moments ago
├── TargetNotHot             the version would not answer at once
├── SignatureMismatch        the version takes or gives other tensors than the champion
├── LaneTaken                somebody else uses the lane
├── UnknownLane              nobody holds such a lane, or not any more
├── UnknownDrill             no rollback of the model has been tried out yet
├── Uncertifiable            a model that cannot be tried, because nothing is known to ask it
├── InUse                    the version serves traffic or is pinned to roll back to
├── BodyTooLarge             more bytes than any command needs
├── NothingToDraw            a picture was wanted of what has not been followed yet
├── SpoolFull                outcomes wait for the store, and no more can be kept
├── SystemDidNotStart        a part of a local system did not become ready
├── AlreadyRunning           a local system runs, otherwise than asked for
├── ControlUnavailable       the control API does not answer
├── UnreadableRunningFile    the file that says what runs on this machine is damaged
└── Refused                  another process refused, with a problem document
"""

from collections.abc import Mapping
from typing import Self

from registry.errors import TiltyardError


class HostsUnavailable(TiltyardError):
    code = "hosts_unavailable"
    next_step = "Versions that are loaded go on serving; `tiltyard doctor` looks at Ray."


class AlreadyDeployed(TiltyardError):
    code = "already_deployed"
    next_step = "Nothing; `tiltyard status` shows how far it is."


class MalformedRequest(TiltyardError):
    code = "malformed_request"
    next_step = "Send an inference request as the Open Inference Protocol v2 has it."


class UnsupportedMediaType(TiltyardError):
    code = "unsupported_media_type"
    next_step = "Send JSON in UTF-8, as it is or compressed with gzip or deflate."


class NotStreaming(TiltyardError):
    code = "not_streaming"
    next_step = "Send the request to `infer`, or log the model with a `predict_stream`."


class ModelFailed(TiltyardError):
    code = "model_error"
    next_step = "The request was well formed: look at the model, or roll the version back."


class InvalidOutput(TiltyardError):
    code = "invalid_output"
    next_step = "The request was well formed: look at the model, or roll the version back."


class NothingToRollBack(TiltyardError):
    code = "nothing_to_roll_back"
    next_step = "`tiltyard promote MODEL VERSION` makes a version of your choice the champion."


class EdgeUnavailable(TiltyardError):
    code = "edge_unavailable"
    next_step = "`tiltyard doctor` looks at the edge; HAProxy goes on with the routes it has."


class EdgeStopped(EdgeUnavailable):
    code = "edge_stopped"
    next_step = "Start HAProxy with `tiltyard up`; it begins with the routes as last known."


class EdgeUnresponsive(EdgeUnavailable):
    code = "edge_unresponsive"
    next_step = "Nothing: the agent tries again every second; `tiltyard doctor` looks at the edge."


class UnusableEdgeFolder(TiltyardError):
    code = "unusable_edge_folder"
    next_step = "Set TILTYARD_STATE_DIR to a folder with a short path, such as /tmp/tiltyard."


class UnreadableLogLine(TiltyardError):
    code = "unreadable_log_line"
    next_step = "Nothing: the line is counted as lost; a full disk can cut lines short."


class JustRolledBack(TiltyardError):
    code = "just_rolled_back"
    next_step = "If that is what you want, name the version with --to, or confirm with --force."


class TargetNotHot(TiltyardError):
    code = "target_not_hot"
    next_step = "Deploy it and wait until it is hot; a rollback can be forced with --force."


class SignatureMismatch(TiltyardError):
    code = "signature_mismatch"
    next_step = "Log the model with the champion's signature, or register it under a new name."


class LaneTaken(TiltyardError):
    code = "lane_taken"
    next_step = "Wait until they are done; a lane that nobody renews is free after a minute."


class UnknownLane(TiltyardError):
    code = "unknown_lane"
    next_step = "Begin again: what nobody renews for a minute is removed."


class UnknownDrill(TiltyardError):
    code = "unknown_drill"
    next_step = "Begin one: `tiltyard drill MODEL`."


class Uncertifiable(TiltyardError):
    code = "uncertifiable"
    next_step = "Register the model with an input example that it answers."


class InUse(TiltyardError):
    code = "version_in_use"
    next_step = "Promote another version, or stop the experiment, first."


class BodyTooLarge(TiltyardError):
    code = "body_too_large"
    next_step = "Send less at once."


class NothingToDraw(TiltyardError):
    code = "nothing_to_draw"
    next_step = "Wait some seconds: control adds to the trail while the experiment runs."


class SpoolFull(TiltyardError):
    code = "spool_full"
    next_step = "Keep the outcomes and send them again when Redis is back."


class SystemDidNotStart(TiltyardError):
    code = "system_did_not_start"


class AlreadyRunning(TiltyardError):
    code = "already_running"
    next_step = "End it with `tiltyard down`, then start it anew; clients are not served meanwhile."


class ControlUnavailable(TiltyardError):
    code = "control_unavailable"
    next_step = "Start it with `tiltyard up`; `tiltyard rollback MODEL --local` works without it."


class UnreadableRunningFile(TiltyardError):
    code = "unreadable_running_file"
    next_step = "Remove the file, then end what is left with `tiltyard down`."


class Refused(TiltyardError):
    """What another process of Tiltyard answered, in its words and with its code.

    Attributes:
        refusal: The other's code.
        problem: The problem document as it came.
    """

    code = "refused"

    def __init__(
        self,
        message: str,
        *,
        code: str,
        next_step: str,
        problem: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.refusal = code
        self.problem = dict(problem or {})

    @classmethod
    def from_problem(cls, problem: Mapping[str, object]) -> Self:
        """Read an RFC 9457 problem document."""
        return cls(
            str(problem.get("detail", problem.get("title", problem))),
            code=str(problem.get("code", "refused")),
            next_step=str(problem.get("next_step", "")),
            problem=problem,
        )
