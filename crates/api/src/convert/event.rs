//! Events of an object. Wire: `event.proto`. Model: [`model::event`]. One way only: nobody sends events to a controller.

use model::event::{Event, History, Who};

use super::field::wire_time;
use crate::{common, operator as wire};

impl From<Who> for wire::Actor {
    fn from(who: Who) -> Self {
        use wire::actor::{Controller, Kind};
        let kind = match who {
            Who::Operator(name) => Kind::Operator(name),
            Who::Tenant(id) => Kind::Tenant(id.as_str().to_owned()),
            Who::Planner(generation) => Kind::Planner(generation),
            Who::Agent(module) => Kind::Agent(module.as_str().to_owned()),
            Who::Controller => Kind::Controller(Controller {}),
        };
        Self { kind: Some(kind) }
    }
}

impl From<Event> for wire::ObjectEvent {
    fn from(Event { at, last, times, what, who, reason, text }: Event) -> Self {
        Self {
            at: wire_time(at),
            last: last.and_then(wire_time),
            times,
            what: what.as_str().to_owned(),
            who: Some(who.into()),
            reason: reason.map_or(common::ReasonCode::Unspecified, Into::into).into(),
            text,
        }
    }
}

impl From<History> for wire::ListEventsResponse {
    fn from(History { older, missed, events }: History) -> Self {
        Self { events: events.into_iter().map(Into::into).collect(), older, missed }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::event::What;
    use model::plan::ReasonCode;
    use model::{ModuleId, TenantId, Time};
    use wire::actor::Kind;

    use super::*;

    #[test]
    fn who_did_it_keeps_its_name() {
        let check = |who: Who, expected: Kind| assert_eq!(wire::Actor::from(who).kind, Some(expected));
        check(Who::operator("ada"), Kind::Operator("ada".into()));
        check(Who::Tenant(TenantId::new("acme").unwrap()), Kind::Tenant("acme".into()));
        check(Who::Planner(7), Kind::Planner(7));
        check(Who::Agent(ModuleId::new("m1").unwrap()), Kind::Agent("m1".into()));
        check(Who::Controller, Kind::Controller(wire::actor::Controller {}));
    }

    #[test]
    fn an_event_says_how_often_and_why() {
        let once = Event::new(Time(5_000), What::Lost, Who::Controller);
        let twice = Event { last: Some(Time(7_250)), times: 2, ..once.clone() };
        let told = History {
            older: 3,
            missed: 1,
            events: [once, twice.because(ReasonCode::LinkLost).saying("silent")].into(),
        };
        let wire = wire::ListEventsResponse::from(told);
        assert_eq!((wire.older, wire.missed, wire.events.len()), (3, 1, 2));
        let [once, twice] = &wire.events[..] else { panic!("{wire:?}") };
        assert_eq!((once.times, once.last, once.reason()), (1, None, common::ReasonCode::Unspecified));
        assert_eq!((twice.times, twice.reason()), (2, common::ReasonCode::LinkLost));
        assert_eq!(twice.last.map(|at| (at.seconds, at.nanos)), Some((7, 250_000_000)));
        assert_eq!((twice.what.as_str(), twice.text.as_str()), ("lost", "silent"));
    }
}
