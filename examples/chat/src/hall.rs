//! Who is here, and who talks with whom.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    rc::{Rc, Weak},
};

use serde::{Deserialize, Serialize};

/// What a person is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Event {
    Waiting,
    Paired,
    Said { text: String },
    Typing,
    Gone,
}

/// What a person does.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Action {
    Say { text: String },
    Type,
    Next,
}

/// A person in one of the processes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Id {
    pub process: Rc<str>,
    pub number: u64,
}

/// What goes between processes, by way of the hub.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Message {
    /// These two talk with each other from now on.
    Pair(Id, Id),
    /// An event for a person, from the partner.
    Event { to: Id, from: Id, event: Event },
    /// A process that does not live any more.
    Dead(Rc<str>),
}

/// Pairs the people of several processes.
pub trait Hub {
    /// Finds a partner for somebody, now or later. Both processes get a [`Message::Pair`].
    fn find(&self, who: &Id);
    /// Somebody does not wait any more.
    fn forget(&self, who: &Id);
    /// Sends to another process.
    fn send(&self, process: &str, message: &Message);
}

type Tell = Rc<dyn Fn(Event)>;

enum State {
    Idle,
    Waiting,
    With(Id),
}

struct Person {
    tell: Tell,
    state: State,
}

/// The people of this process. Without a hub they are paired with each other.
pub struct Hall {
    process: Rc<str>,
    people: RefCell<HashMap<u64, Person>>,
    /// Who waits for a partner in this process; unused with a hub.
    waiting: RefCell<VecDeque<Id>>,
    last: RefCell<u64>,
    hub: RefCell<Option<Rc<dyn Hub>>>,
    /// Whom to tell that the partner has gone, as soon as the hub is there again.
    farewells: RefCell<Vec<(Id, Id)>>,
}

impl Hall {
    pub fn new() -> Result<Rc<Hall>, getrandom::Error> {
        Ok(Rc::new(Hall {
            process: format!("{:016x}", getrandom::u64()?).into(),
            people: RefCell::default(),
            waiting: RefCell::default(),
            last: RefCell::default(),
            hub: RefCell::default(),
            farewells: RefCell::default(),
        }))
    }

    pub fn process(&self) -> &Rc<str> {
        &self.process
    }

    /// Lets somebody in, who waits for a partner at once. Dropping the place is to leave.
    pub fn enter(self: &Rc<Self>, tell: impl Fn(Event) + 'static) -> Place {
        *self.last.borrow_mut() += 1;
        let id = Id {
            process: self.process.clone(),
            number: *self.last.borrow(),
        };
        let person = Person {
            tell: Rc::new(tell),
            state: State::Idle,
        };
        self.people.borrow_mut().insert(id.number, person);
        self.find(&id);
        Place {
            hall: Rc::downgrade(self),
            id,
        }
    }

    /// The hub is reached: from now on it pairs.
    pub fn connected(&self, hub: Rc<dyn Hub>) {
        *self.hub.borrow_mut() = Some(hub.clone());
        self.waiting.borrow_mut().clear();
        for (to, from) in self.farewells.take() {
            self.send(to, from, Event::Gone);
        }
        for id in self.those(|state| matches!(state, State::Waiting)) {
            hub.find(&id);
        }
    }

    /// The hub is lost: nobody in another process can be reached. People who wait are paired with
    /// each other.
    pub fn disconnected(&self) {
        *self.hub.borrow_mut() = None;
        self.end(|partner| partner.process != self.process);
        self.waiting.borrow_mut().clear();
        let mut waiting = self.those(|state| matches!(state, State::Waiting));
        waiting.sort_unstable_by_key(|id| id.number);
        for id in waiting {
            self.find_here(&id);
        }
    }

    /// Receives what another process, or the hub, has sent.
    pub fn receive(&self, message: Message) {
        match message {
            Message::Pair(one, other) => self.pair(one, other),
            Message::Event { to, from, event } => self.deliver(to, from, event),
            Message::Dead(process) => self.end(|partner| partner.process == process),
        }
    }

    /// Returns the other processes in which people of this one have partners.
    pub fn neighbours(&self) -> HashSet<Rc<str>> {
        let people = self.people.borrow();
        let partners = people.values().filter_map(|person| match &person.state {
            State::With(partner) => Some(partner.process.clone()),
            _ => None,
        });
        partners
            .filter(|process| *process != self.process)
            .collect()
    }

    fn find(&self, id: &Id) {
        self.set(id, State::Waiting);
        self.tell(id, Event::Waiting);
        if let Some(hub) = &*self.hub.borrow() {
            return hub.find(id);
        }
        self.find_here(id);
    }

    /// Finds a partner in this process.
    fn find_here(&self, id: &Id) {
        let other = self.waiting.borrow_mut().pop_front();
        match other {
            Some(other) => self.pair(id.clone(), other),
            None => self.waiting.borrow_mut().push_back(id.clone()),
        }
    }

    fn pair(&self, one: Id, other: Id) {
        let local = [(&one, &other), (&other, &one)]
            .into_iter()
            .filter(|(id, _)| id.process == self.process);
        // First all, then the news: whoever is told may answer at once.
        let (found, missing): (Vec<_>, Vec<_>) = local.partition(|(id, partner)| {
            let mut people = self.people.borrow_mut();
            match people.get_mut(&id.number) {
                Some(person) if matches!(person.state, State::Waiting) => {
                    person.state = State::With((*partner).clone());
                    true
                }
                _ => false,
            }
        });
        found
            .iter()
            .for_each(|(id, _)| self.tell(id, Event::Paired));
        // These have gone meanwhile.
        for (id, partner) in missing {
            self.send(partner.clone(), id.clone(), Event::Gone);
        }
    }

    fn deliver(&self, to: Id, from: Id, event: Event) {
        let partner = match self.people.borrow_mut().get_mut(&to.number) {
            Some(person) if matches!(&person.state, State::With(partner) if *partner == from) => {
                if event == Event::Gone {
                    person.state = State::Idle;
                }
                true
            }
            _ => false,
        };
        if partner {
            self.tell(&to, event);
        } else if event != Event::Gone {
            self.send(from, to, Event::Gone);
        }
    }

    fn send(&self, to: Id, from: Id, event: Event) {
        if to.process == self.process {
            return self.deliver(to, from, event);
        }
        let hub = self.hub.borrow().clone();
        match hub {
            Some(hub) => {
                let process = to.process.clone();
                hub.send(&process, &Message::Event { to, from, event });
            }
            None if event == Event::Gone => self.farewells.borrow_mut().push((to, from)),
            None => {}
        }
    }

    /// Ends the talks with these partners.
    fn end(&self, with: impl Fn(&Id) -> bool) {
        let these = self.those(|state| matches!(state, State::With(partner) if with(partner)));
        for id in these {
            if let Some(partner) = self.leave(&id) {
                // A process that only stood still learns of it too.
                self.send(partner, id.clone(), Event::Gone);
            }
            self.tell(&id, Event::Gone);
        }
    }

    fn act(&self, id: &Id, action: Action) {
        let partner = match self
            .people
            .borrow()
            .get(&id.number)
            .map(|person| &person.state)
        {
            Some(State::With(partner)) => Some(partner.clone()),
            Some(State::Waiting) if matches!(action, Action::Next) => return,
            _ => None,
        };
        match (action, partner) {
            (Action::Say { text }, Some(partner)) => {
                self.send(partner, id.clone(), Event::Said { text });
            }
            (Action::Type, Some(partner)) => self.send(partner, id.clone(), Event::Typing),
            (Action::Next, partner) => {
                self.leave(id);
                if let Some(partner) = partner {
                    self.send(partner, id.clone(), Event::Gone);
                }
                self.find(id);
            }
            (_, None) => {}
        }
    }

    /// Ends somebody's talk or waiting. Returns the partner.
    fn leave(&self, id: &Id) -> Option<Id> {
        match self.set(id, State::Idle) {
            Some(State::With(partner)) => return Some(partner),
            Some(State::Waiting) => match &*self.hub.borrow() {
                Some(hub) => hub.forget(id),
                None => self.waiting.borrow_mut().retain(|other| other != id),
            },
            _ => {}
        }
        None
    }

    fn set(&self, id: &Id, state: State) -> Option<State> {
        let mut people = self.people.borrow_mut();
        let person = people.get_mut(&id.number)?;
        Some(std::mem::replace(&mut person.state, state))
    }

    fn those(&self, are: impl Fn(&State) -> bool) -> Vec<Id> {
        let people = self.people.borrow();
        let these = people.iter().filter(|(_, person)| are(&person.state));
        let id = |(number, _): (&u64, _)| Id {
            process: self.process.clone(),
            number: *number,
        };
        these.map(id).collect()
    }

    fn tell(&self, id: &Id, event: Event) {
        let people = self.people.borrow();
        let tell = people.get(&id.number).map(|person| person.tell.clone());
        drop(people);
        if let Some(tell) = tell {
            tell(event);
        }
    }
}

impl fmt::Debug for Hall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hall of {} people", self.people.borrow().len())
    }
}

/// Somebody's place in the hall.
pub struct Place {
    hall: Weak<Hall>,
    id: Id,
}

impl Place {
    pub fn act(&self, action: Action) {
        if let Some(hall) = self.hall.upgrade() {
            hall.act(&self.id, action);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(hall) = self.hall.upgrade() else {
            return;
        };
        let partner = hall.leave(&self.id);
        hall.people.borrow_mut().remove(&self.id.number);
        if let Some(partner) = partner {
            hall.send(partner, self.id.clone(), Event::Gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hub that is there, and pairs nobody.
    #[derive(Default)]
    struct Nobody(RefCell<Vec<Id>>);

    impl Hub for Nobody {
        fn find(&self, who: &Id) {
            self.0.borrow_mut().push(who.clone());
        }

        fn forget(&self, who: &Id) {
            self.0.borrow_mut().retain(|other| other != who);
        }

        fn send(&self, _: &str, _: &Message) {}
    }

    fn person(hall: &Rc<Hall>) -> (Place, Rc<RefCell<Vec<Event>>>) {
        let heard = Rc::new(RefCell::new(Vec::new()));
        let hears = heard.clone();
        let place = hall.enter(move |event| hears.borrow_mut().push(event));
        (place, heard)
    }

    /// Somebody who waits here, and is paired by the hub when it has come.
    #[test]
    fn who_has_found_a_partner_by_the_hub_does_not_wait_here() {
        let hall = Hall::new().expect("random bytes");
        let (anna, heard) = person(&hall);
        let hub = Rc::new(Nobody::default());
        hall.connected(hub.clone());
        assert!(hub.0.borrow().iter().eq([&anna.id]));
        let elsewhere = Id {
            process: "elsewhere".into(),
            number: 1,
        };
        hall.receive(Message::Pair(anna.id.clone(), elsewhere));
        hall.disconnected();
        assert_eq!(
            *heard.borrow(),
            [Event::Waiting, Event::Paired, Event::Gone]
        );
        // She is not her own partner.
        anna.act(Action::Next);
        assert_eq!(heard.borrow()[3..], [Event::Waiting]);
        let (_otto, his) = person(&hall);
        assert_eq!(*his.borrow(), [Event::Waiting, Event::Paired]);
        assert_eq!(heard.borrow()[4..], [Event::Paired]);
    }

    #[test]
    fn who_waits_when_the_hub_is_lost_is_paired_here() {
        let hall = Hall::new().expect("random bytes");
        hall.connected(Rc::new(Nobody::default()));
        let (anna, hers) = person(&hall);
        hall.disconnected();
        let (_otto, his) = person(&hall);
        assert_eq!(*hers.borrow(), [Event::Waiting, Event::Paired]);
        assert_eq!(*his.borrow(), [Event::Waiting, Event::Paired]);
        // Who has gone is nobody's partner.
        drop(anna);
        let (eva, _) = person(&hall);
        drop(eva);
        let (_next, theirs) = person(&hall);
        assert_eq!(*theirs.borrow(), [Event::Waiting]);
    }
}
