//! What `weir check --connect` says about a topic.

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{FutureProducer, Producer};

use super::{Events, Kafka, shown};

impl Kafka {
    /// Tries whether deliveries could be made, and what the topic will lose.
    pub(super) async fn look(&self) -> Result<Vec<String>, String> {
        self.allowed().await?;
        let events = Events::default();
        let producer: KafkaResult<FutureProducer<Events>> =
            self.config.create_with_context(events.clone());
        let producer = producer.map_err(|error| shown(&error))?;
        let topic = match self.options.topic.names_the_type() {
            true => None,
            false => Some(self.options.topic.0.clone()),
        };
        let (asked, timeout) = (topic.clone(), self.options.timeout);
        let metadata = tokio::task::spawn_blocking(move || {
            let found = producer.client().fetch_metadata(asked.as_deref(), timeout);
            let topics = found.map(|found| {
                let topic = |topic: &MetadataTopic| {
                    let replicas = topic
                        .partitions()
                        .iter()
                        .map(|it| it.replicas().len())
                        .min();
                    (topic.error().map(Code::from), replicas)
                };
                let is_it = |it: &&MetadataTopic| Some(it.name()) == asked.as_deref();
                found.topics().iter().find(is_it).map(topic)
            });
            topics.map_err(|error| match events.recent() {
                Some((_, reason)) => reason,
                None => error.to_string(),
            })
        });
        let found = metadata.await.map_err(|error| error.to_string())??;
        let Some(topic) = topic else {
            return Ok(vec![
                "the topics are named after types of entities, and were not looked at".to_owned(),
            ]);
        };
        let replicas = match found {
            Some((None, replicas)) => replicas.unwrap_or(0),
            Some((Some(code), _)) => return Err(format!("the topic {topic:?}: {code}")),
            None => return Err(format!("there is no topic {topic:?}")),
        };
        let mut warnings = self.settings(&topic).await;
        if replicas < 2 {
            warnings.push(format!(
                "the topic {topic:?} has one copy: its broker's disk is all there is"
            ));
        }
        Ok(warnings)
    }

    /// Warnings of the configuration of a topic, which the account may not be allowed to read.
    async fn settings(&self, topic: &str) -> Vec<String> {
        let client: KafkaResult<AdminClient<DefaultClientContext>> = self.config.create();
        let options = AdminOptions::new().request_timeout(Some(self.options.timeout));
        let asked = [ResourceSpecifier::Topic(topic)];
        let described = match &client {
            Ok(client) => client.describe_configs(&asked, &options).await,
            Err(error) => Err(error.clone()),
        };
        let described = described.ok().and_then(|mut found| found.pop()?.ok());
        let Some(described) = described else {
            return vec![format!(
                "the settings of the topic {topic:?} cannot be read"
            )];
        };
        let setting = |name: &str| described.get(name).and_then(|it| it.value.clone());
        let mut warnings = Vec::new();
        if let Some(policy) = setting("cleanup.policy")
            && policy.contains("delete")
        {
            let age = setting("retention.ms").unwrap_or_default();
            warnings.push(format!(
                "the topic {topic:?} drops records after {age} ms (cleanup.policy = {policy}), also the newest state of an entity: use cleanup.policy = compact"
            ));
        }
        if setting("min.insync.replicas").as_deref() == Some("1") {
            warnings.push(format!(
                "the topic {topic:?} acknowledges with one copy (min.insync.replicas = 1), which is lost with its broker"
            ));
        }
        warnings
    }
}
