//! Shows what each stage of a source's chain makes of an event, with the plugin's log: for people who try an
//! event out.
//!
//! The calls are those of a serving chain, within the same limits, but in instances of their own, so that the
//! log is that of the event alone. Nothing is counted, and nothing goes to the host's log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::Event;
use crate::plugin::batch::Verdict;
use crate::plugin::bindings::Answer;
use crate::plugin::chain::{Items, SourceChain, Stage};
use crate::plugin::instance::Instance;
use crate::plugin::log::Line;
use crate::plugin::words::{EventVerdict, Failed, Role};

/// What a chain makes of an event.
#[derive(Clone, Debug)]
pub struct EventPreview {
    /// The stages that it came to, in order.
    pub stages: Vec<StagePreview>,
    /// The verdict of the chain.
    pub verdict: EventVerdict,
}

/// What a stage makes of an event.
#[derive(Clone, Debug)]
pub struct StagePreview {
    /// `name@version` of the plugin.
    pub plugin: String,
    /// The role that it plays here.
    pub role: Role,
    /// Its result.
    pub result: StageResult,
    /// What it logged, also while it was configured for this event.
    pub log: Vec<Line>,
    /// How long the call took.
    pub time: Duration,
}

/// The result of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageResult {
    /// A filter let it pass.
    Passed,
    /// A filter dropped it.
    Filtered,
    /// A mapper returned as many changes.
    Changes(usize),
    /// The plugin failed on it.
    Failed(Failed),
}

/// Runs the events of a request through a chain, one by one.
pub struct ChainPreview<'a> {
    chain: &'a SourceChain,
    items: Items,
    /// The instance of each stage that an earlier event has left.
    instances: Vec<Option<Instance>>,
}

impl<'a> ChainPreview<'a> {
    /// Of these events.
    pub fn new(chain: &'a SourceChain, events: Arc<Vec<Event>>) -> ChainPreview<'a> {
        ChainPreview {
            chain,
            items: Items::Events(events),
            instances: chain.stages.iter().map(|_| None).collect(),
        }
    }

    /// What the chain makes of the event at this index. Blocks for up to the time limits of its plugins.
    pub fn event(&mut self, index: usize) -> EventPreview {
        let (mut stages, mut verdict) = (Vec::new(), Verdict::Passed);
        for (at, stage) in self.chain.stages.iter().enumerate() {
            let (preview, answer) = stage.preview(&self.items, index, &mut self.instances[at]);
            stages.push(preview);
            verdict = match answer {
                Ok(Answer::Accepted(true)) => continue,
                Ok(Answer::Accepted(false)) => Verdict::Filtered(at),
                Ok(made) => Verdict::Made(made),
                Err(failed) => Verdict::Failed(failed),
            };
            break;
        }
        EventPreview {
            stages,
            verdict: self.chain.verdict(verdict),
        }
    }
}

impl Stage {
    /// Calls the stage with one event, in the instance that earlier events have left or in a new one.
    fn preview(
        &self,
        items: &Items,
        index: usize,
        kept: &mut Option<Instance>,
    ) -> (StagePreview, Result<Answer, Failed>) {
        let component = self.plugin.component();
        let failed = |failure, fault| Failed {
            plugin: component.label().into(),
            failure,
            fault,
        };
        let began = Instant::now();
        let started = match kept.take() {
            Some(instance) => Ok(instance),
            None => Instance::configured(component, self.plugin.settings(), true),
        };
        let (log, answer) = match started {
            Err(fault) => (Vec::new(), Err(failed(fault.failure(), true))),
            Ok(mut instance) => {
                let answers = instance.call(self.role, items, &[index]);
                let log = instance.take_lines();
                let answer = match answers.map(|mut answers| answers.pop()) {
                    // After a fault an instance is unusable.
                    Err(fault) => Err(failed(fault.failure(), true)),
                    Ok(answer) => {
                        *kept = Some(instance).filter(|_| !component.limits().strict);
                        match answer {
                            Some(Ok(answer)) => Ok(answer),
                            Some(Err(declined)) => Err(failed(declined.failure, declined.fault)),
                            None => Err(Failed::by_host("the call returned no result")),
                        }
                    }
                };
                (log, answer)
            }
        };
        let result = match &answer {
            Ok(Answer::Accepted(true)) => StageResult::Passed,
            Ok(Answer::Accepted(false)) => StageResult::Filtered,
            Ok(Answer::Changes(changes)) => StageResult::Changes(changes.len()),
            Ok(Answer::Rendered(_)) => {
                StageResult::Failed(Failed::by_host("a mapper returned a rendering"))
            }
            Err(failed) => StageResult::Failed(failed.clone()),
        };
        let preview = StagePreview {
            plugin: component.label().to_owned(),
            role: self.role,
            result,
            log,
            time: began.elapsed(),
        };
        (preview, answer)
    }
}
