//! Metrics that are read from the prober when they are asked for: what runs at this moment, and certificates.

use std::fmt;

use probe::View;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::{Labels, gauges};

/// Encodes what a prober says of itself.
#[derive(Debug)]
pub struct CheckMetrics(View);

impl CheckMetrics {
    /// For one prober.
    pub fn new(view: View) -> Self {
        CheckMetrics(view)
    }
}

impl Collector for CheckMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let running = i64::try_from(self.0.load().running).unwrap_or(i64::MAX);
        gauges(
            &mut encoder,
            "director_checks_in_flight",
            "Checks that are running",
            std::iter::once((Labels::new(), running)),
        )?;
        let certificates = self.0.certificates().into_iter().map(|certificate| {
            let labels = vec![
                ("kind", certificate.kind.to_owned()),
                ("target", certificate.address.to_string()),
            ];
            (labels, certificate.expires)
        });
        gauges(
            &mut encoder,
            "director_check_certificate_expiry_timestamp_seconds",
            "When the certificate ends that a checked server showed last",
            certificates,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use conf::Moment;
    use probe::engine::Memory;
    use probe::{Prober, Settings};
    use prometheus_client::registry::Registry;

    use super::*;

    #[tokio::test]
    async fn what_the_prober_says_is_encoded() {
        let engine = Arc::new(Memory::default());
        let (prober, _changes) = Prober::with_engine(Settings::default(), || Moment::ZERO, engine);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(CheckMetrics::new(prober.view())));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "director_checks_in_flight 0",
            "# TYPE director_check_certificate_expiry_timestamp_seconds gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
