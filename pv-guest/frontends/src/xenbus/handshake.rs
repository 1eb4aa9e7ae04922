//! How far the two halves of a device have come: one function says what to do
//! next, from where this half is and what the other says.
//!
//! Source: `io/xenbus.h`, `docs/misc/pv-drivers-lifecycle.pandoc`; and what
//! backends of Linux and QEMU do with a frontend that goes back to the start.

use hypercall_abi::io::xenbus::XenbusState;

/// Where the frontend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// At the start: the backend was told nothing (state `Initialising`).
    Idle,
    /// The backend was told all; it has not answered.
    Told,
    /// It works (state `Connected`).
    Live,
    /// The backend wants to end: what it has still to answer is waited for.
    Draining,
    /// This half ends by itself (state `Closing`): it uses nothing any more.
    Leaving,
    /// It has ended (state `Closed`).
    Closed,
}

/// Whether a frontend that has ended is to begin again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// As soon as the backend lets it.
    Again,
    /// Not with this backend as it is: only when it has been made anew.
    Stay,
}

/// What the frontend knows of its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its state; [`XenbusState::UNKNOWN`]: there is none.
    pub state: XenbusState,
    /// Whether the toolstack wants it to stay.
    pub online: Online,
    /// Whether it has gone through an end since this frontend ended.
    pub renewed: Renewed,
}

/// Whether the toolstack wants a backend to stay when its frontend ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Online {
    /// It does: the device may be connected again.
    Yes,
    /// The device is being taken away.
    No,
}

/// Whether a backend ended since its frontend did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// It did: what it is now, it is anew.
    Yes,
    /// It may still be what it was.
    No,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// Nothing, until something changes.
    Wait,
    /// Agree: read what is offered, tell what is wanted.
    Tell,
    /// The backend is ready: begin.
    GoLive,
    /// Look whether the backend changed something.
    Look,
    /// Begin nothing new, and let the backend finish.
    Drain,
    /// The backend is gone, or has forgotten: use nothing of it any more, and
    /// go back to the start (state `Initialising`).
    Lost,
    /// The same, but say `Closed`.
    LostForGood,
    /// Use nothing any more, and say `Closing`: what the backend believes is out
    /// of date.
    Reset,
    /// Say `Closed`.
    Close,
    /// Begin anew: say `Initialising`.
    Restart,
}

/// What is to be done in `phase` about what was `seen`.
pub fn step(phase: Phase, seen: Seen, wish: Wish) -> Step {
    use XenbusState as S;
    let may_restart = wish == Wish::Again || seen.renewed == Renewed::Yes;
    match (phase, seen.state) {
        // No state at all: nothing can be known from it.
        (_, state) if state > S::RECONFIGURED => Step::Wait,

        // Some backends do not wait to be ready before they say so.
        (Phase::Idle, S::INITWAIT | S::INITIALISED) => Step::Tell,
        // It works with whoever was here before.
        (Phase::Idle, S::CONNECTED | S::RECONFIGURING | S::RECONFIGURED) => Step::Reset,
        (Phase::Idle, S::CLOSING) => Step::Close,
        (Phase::Idle, _) => Step::Wait,

        (Phase::Told, S::INITWAIT | S::INITIALISED) => Step::Wait,
        (Phase::Told, S::CONNECTED | S::RECONFIGURING | S::RECONFIGURED) => Step::GoLive,

        (Phase::Live, S::CONNECTED | S::RECONFIGURING | S::RECONFIGURED) => Step::Look,
        // It began anew, and goes on where it was: it reads what it was told then.
        (Phase::Live, S::INITIALISING | S::INITWAIT | S::INITIALISED) => Step::Wait,
        (Phase::Live, S::CLOSING) => Step::Drain,

        (Phase::Draining, S::CLOSING | S::CONNECTED) => Step::Wait,

        // It has ended, or ends without having begun.
        (Phase::Told, S::CLOSING | S::CLOSED) | (Phase::Live, S::CLOSED) | (Phase::Draining, _) => {
            Step::LostForGood
        }
        // It is not there any more, or began anew and knows nothing of us.
        (Phase::Told | Phase::Live, _) => Step::Lost,

        (Phase::Leaving, S::CONNECTED | S::RECONFIGURING | S::RECONFIGURED) => Step::Wait,
        (Phase::Leaving, _) => Step::Close,

        (Phase::Closed, S::INITIALISING | S::INITWAIT | S::INITIALISED) if may_restart => {
            Step::Restart
        }
        // It waits for a frontend that begins: but one whose device is to go
        // does not.
        (Phase::Closed, S::CLOSED) if seen.online == Online::Yes && wish == Wish::Again => {
            Step::Restart
        }
        (Phase::Closed, _) => Step::Wait,
    }
}

/// Whether a backend in this state has ended.
pub const fn has_ended(state: XenbusState) -> bool {
    matches!(
        state,
        XenbusState::UNKNOWN | XenbusState::CLOSING | XenbusState::CLOSED
    )
}

/// Whether a backend that was in the state `before` has begun anew since: nobody goes back
/// from a connection.
pub const fn has_begun_anew(before: XenbusState, now: XenbusState) -> bool {
    use XenbusState as S;
    matches!(before, S::CONNECTED | S::RECONFIGURING | S::RECONFIGURED)
        && matches!(now, S::INITIALISING | S::INITWAIT | S::INITIALISED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: u32) -> Seen {
        Seen {
            state: XenbusState(state),
            online: Online::Yes,
            renewed: Renewed::No,
        }
    }

    /// What a step does to the phase, as the bus carries it out.
    fn after(phase: Phase, step: Step) -> Phase {
        match step {
            Step::Wait | Step::Look => phase,
            Step::Tell => Phase::Told,
            Step::GoLive => Phase::Live,
            Step::Drain => Phase::Draining,
            Step::Lost | Step::Restart => Phase::Idle,
            Step::LostForGood | Step::Close => Phase::Closed,
            Step::Reset => Phase::Leaving,
        }
    }

    const PHASES: [Phase; 6] = [
        Phase::Idle,
        Phase::Told,
        Phase::Live,
        Phase::Draining,
        Phase::Leaving,
        Phase::Closed,
    ];

    /// Whatever a backend says and keeps saying, the frontend comes to rest: no
    /// state of the peer's makes it run in circles.
    #[test]
    fn it_comes_to_rest_in_any_state() {
        for start in PHASES {
            for state in 0..12 {
                for wish in [Wish::Again, Wish::Stay] {
                    let mut phase = start;
                    let rests = (0..8).any(|_| {
                        let step = step(phase, seen(state), wish);
                        phase = after(phase, step);
                        matches!(step, Step::Wait | Step::Look)
                    });
                    assert!(rests, "{start:?} and {state} for ever, {wish:?}");
                }
            }
        }
    }

    /// From anywhere, a backend that does what it should brings it to work.
    #[test]
    fn a_good_backend_gets_there_from_anywhere() {
        for start in PHASES {
            for first in 0..9 {
                let mut phase = start;
                let mut backend = XenbusState(first);
                for _ in 0..20 {
                    let now = seen(backend.0);
                    let step = step(phase, now, Wish::Again);
                    phase = after(phase, step);
                    // As Linux's backends answer their frontend's states.
                    backend = match (phase, backend) {
                        (Phase::Idle, XenbusState::CONNECTED) => backend,
                        (Phase::Idle, _) => XenbusState::INITWAIT,
                        (Phase::Told, XenbusState::INITWAIT | XenbusState::INITIALISED) => {
                            XenbusState::CONNECTED
                        }
                        (Phase::Live, state) if state < XenbusState::CONNECTED => {
                            XenbusState::CONNECTED
                        }
                        (Phase::Told | Phase::Live, _) => backend,
                        (Phase::Leaving, _) => XenbusState::CLOSING,
                        (Phase::Closed | Phase::Draining, _) => XenbusState::CLOSED,
                    };
                }
                assert_eq!(phase, Phase::Live, "{start:?}, {first}");
            }
        }
    }

    #[test]
    fn a_device_that_is_taken_away_is_not_begun_again() {
        let gone = Seen {
            online: Online::No,
            ..seen(6)
        };
        assert_eq!(step(Phase::Closed, gone, Wish::Again), Step::Wait);
        assert_eq!(step(Phase::Closed, seen(6), Wish::Again), Step::Restart);
    }

    #[test]
    fn one_that_broke_waits_for_a_new_backend() {
        assert_eq!(step(Phase::Closed, seen(2), Wish::Stay), Step::Wait);
        assert_eq!(step(Phase::Closed, seen(6), Wish::Stay), Step::Wait);
        let new = Seen {
            renewed: Renewed::Yes,
            ..seen(2)
        };
        assert_eq!(step(Phase::Closed, new, Wish::Stay), Step::Restart);
    }
}
