//! One attempt at one event, and what follows from how it ends.

use std::path::Path;

use events::{
    AGE_MAX, AcceptError, Condition, Event, EventConfig, GivenUp, NewEvent, QueueError, Target, Timestamp,
};
use protocol::FunctionName;

use super::Setup;
use super::follow_up::{End, HOPS_MAX};
use super::hands::{Answer, Attempt};
use super::line;
use super::metrics::Undelivered;

pub(super) struct Attempts {
    setup: Setup,
}

/// An event is ours until this is told that it ended: whatever happens to the attempt, the queue gets it back.
struct Held<'a> {
    setup: &'a Setup,
    event: &'a Event,
    has_ended: bool,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            let now = self.setup.clock.now();
            self.setup.queue.refuse(self.event.id, now, Timestamp(u64::MAX));
        }
    }
}

impl Attempts {
    pub(super) fn new(setup: Setup) -> Self {
        Self { setup }
    }

    /// Tries an event once.
    pub(super) async fn make(&self, event: Event) {
        let mut held = Held { setup: &self.setup, event: &event, has_ended: false };
        let ended = match &event.target {
            Target::Function { name, qualifier } => self.invoke(&event, name, qualifier.as_deref()).await,
            Target::File { path } => self.append(&event, path).await,
        };
        held.has_ended = match ended {
            Ok(Ended::Yes) => true,
            Ok(Ended::Refused { latest }) => {
                self.setup.queue.refuse(event.id, self.setup.clock.now(), latest);
                true
            }
            Err(error) => {
                tracing::error!(%error, event = %event.invocation, "an event goes back to the queue");
                false
            }
        };
    }

    async fn invoke(
        &self,
        event: &Event,
        name: &FunctionName,
        qualifier: Option<&str>,
    ) -> Result<Ended, QueueError> {
        let config = match self.setup.hands.config(name, qualifier).await {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(function = %name, error, "the settings of events cannot be read: they wait");
                return Ok(Ended::Refused { latest: Timestamp(u64::MAX) });
            }
        };
        let give_up = async |why: GivenUp, answer: Option<&Answer>| {
            self.setup.metrics.given_up(name, why);
            tracing::warn!(function = %name, event = %event.invocation, "given up: {}", why.as_str());
            self.end(event, name, qualifier, Condition::GivenUp(why), answer, &config).await
        };
        if config.is_too_old(event.accepted, self.setup.clock.now()) {
            return give_up(GivenUp::EventAgeExceeded, None).await;
        }
        match self.setup.hands.invoke(event, name, qualifier).await {
            Attempt::Answered(answer) => {
                self.end(event, name, qualifier, Condition::Success, Some(&answer), &config).await
            }
            Attempt::Failed(answer) => {
                let (failures, now) = (event.failures + 1, self.setup.clock.now());
                match config.after_failure(failures, event.accepted, now) {
                    Ok(due) => {
                        self.setup.metrics.retried(name);
                        self.setup.queue.fail(event.id, due).await.map(|()| Ended::Yes)
                    }
                    Err(why) => give_up(why, Some(&answer)).await,
                }
            }
            Attempt::Refused => Ok(Ended::Refused { latest: event.accepted.after(config.max_age) }),
            Attempt::NoFunction => {
                tracing::warn!(function = %name, event = %event.invocation, "dropped: there is no such function");
                self.setup.metrics.no_function(name);
                self.finish(event, Vec::new()).await
            }
        }
    }

    async fn end(
        &self,
        event: &Event,
        name: &FunctionName,
        qualifier: Option<&str>,
        condition: Condition,
        answer: Option<&Answer>,
        config: &EventConfig,
    ) -> Result<Ended, QueueError> {
        let (region, now) = (&self.setup.region, self.setup.clock.now());
        let end = End { event, name, qualifier, condition, answer, region, now };
        self.finish(event, end.follow_ups(config)).await
    }

    /// The event goes, and these come, as far as they can.
    async fn finish(&self, event: &Event, mut follow_ups: Vec<NewEvent>) -> Result<Ended, QueueError> {
        follow_ups.retain(|next| {
            let is_loop = next.hops > HOPS_MAX;
            if is_loop {
                self.undelivered(&next.target, event, Undelivered::Loop);
            }
            !is_loop
        });
        let targets: Vec<_> = follow_ups.iter().map(|next| next.target.clone()).collect();
        let queued = self.setup.queue.finish(event.id, follow_ups, self.setup.clock.now()).await?;
        for (target, result) in targets.iter().zip(queued) {
            match result {
                Ok(_) => {}
                Err(AcceptError::TooLarge { .. }) => {
                    self.undelivered(target, event, Undelivered::TooLarge);
                }
                Err(AcceptError::Full(_) | AcceptError::Queue(_)) => {
                    self.undelivered(target, event, Undelivered::QueueFull);
                }
            }
        }
        Ok(Ended::Yes)
    }

    fn undelivered(&self, target: &Target, event: &Event, why: Undelivered) {
        tracing::error!(?target, event = %event.invocation, ?why, "what became of an event is told to nobody");
        self.setup.metrics.undelivered(&target.lane(), why);
    }

    async fn append(&self, event: &Event, path: &Path) -> Result<Ended, QueueError> {
        let (destinations, file, payload) =
            (self.setup.destinations.clone(), path.to_owned(), event.payload.clone());
        let appended = tokio::task::spawn_blocking(move || line::append(&destinations, &file, &payload));
        let appended = appended.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let Err(error) = appended else { return self.finish(event, Vec::new()).await };
        let latest = event.accepted.after(AGE_MAX);
        if self.setup.clock.now() < latest {
            tracing::warn!(%error, ?path, "a line waits until it can be written");
            return Ok(Ended::Refused { latest });
        }
        tracing::error!(%error, ?path, "a line was not written for hours, and is dropped");
        self.undelivered(&event.target, event, Undelivered::File);
        self.finish(event, Vec::new()).await
    }
}

/// Whether an attempt was one.
enum Ended {
    /// The queue knows how it ended.
    Yes,
    /// It could not be made.
    Refused {
        /// When to look again at the latest: then the event is too old.
        latest: Timestamp,
    },
}
