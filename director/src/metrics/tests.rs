//! The names and labels are an interface: dashboards and alerts are written against them.

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::*;
use crate::forecast::Forecast;

/// Name and labels of each series, as documented in the README.
const SERIES: &[&str] = &[
    "director_access_dropped_packets_total{service,reason}",
    "director_access_enforced",
    "director_bytes_total{service,vip,proto,address,path,direction}",
    "director_check_duration_seconds{kind,target}",
    "director_check_lateness_seconds",
    "director_check_targets",
    "director_check_total{kind,target,result}",
    "director_checks_late_total",
    "director_checks_started_total",
    "director_checks_waiting",
    "director_connection_forecast_bytes",
    "director_connection_table_buckets",
    "director_connections",
    "director_destination_admin{service,vip,proto,address,destination,admin}",
    "director_destination_connections_active{service,vip,proto,address,destination}",
    "director_destination_connections_inactive{service,vip,proto,address,destination}",
    "director_destination_connections_total{service,vip,proto,address,destination}",
    "director_destination_health{service,vip,proto,address,destination}",
    "director_destination_weight{service,vip,proto,address,destination}",
    "director_draining",
    "director_drift_total",
    "director_foreign_services",
    "director_netlink_errors_total",
    "director_operations_total",
    "director_packets_total{service,vip,proto,address,path,direction}",
    "director_path_check_total{vip,server,forward,result}",
    "director_path_up{vip,server,forward}",
    "director_pool_eligible{service,port,family}",
    "director_pool_healthy_percent{service,port,family}",
    "director_pool_healthy{service,port,family}",
    "director_pool_kept{service,port,family}",
    "director_pool_panic{service,port,family}",
    "director_pool_quorum{service,port,family}",
    "director_pool_sorry_server{service,port,family}",
    "director_pool_starting{service,port,family}",
    "director_service_connections_total{service,vip,proto,address,path}",
    "director_service_servers{service,vip,proto,address,state}",
    "director_sync_running{role}",
    "director_sync_unknown_seconds",
    "director_sysctl_deviations",
    "director_takeover_window_open",
    "director_takeover_windows_total",
];

fn text() -> String {
    let labels = |names: &[&'static str]| {
        names
            .iter()
            .map(|name| (*name, "x".to_owned()))
            .collect::<Labels>()
    };
    let service = ["service", "vip", "proto", "address"];
    let mut destination = service.to_vec();
    destination.push("destination");
    let metrics = Metrics::default();
    metrics.update(|sample| {
        sample.paths.push(crate::path_check::PathSample {
            labels: labels(&["vip", "server", "forward"]),
            good: 1,
            bad: 0,
            up: Some(true),
        });
        sample.services.push(ServiceSample {
            labels: labels(&service),
            one_way: true,
            ..ServiceSample::default()
        });
        sample.destinations.push(DestinationSample {
            labels: labels(&destination),
            admin: Some("drain"),
            ..DestinationSample::default()
        });
        sample.pools.push(PoolSample {
            labels: labels(&["service", "port", "family"]),
            ..PoolSample::default()
        });
        sample.connections.synchronised = true;
        sample.connections.forecast = Some(Forecast {
            expected: 0,
            connections: 0,
            buckets: 0,
            bytes: 0,
            available: None,
        });
        sample
            .access_dropped
            .push((labels(&["service", "reason"]), 1));
        sample
            .checks
            .push((labels(&["kind", "target"]), 1, 0, Some(0.1)));
    });
    let mut registry = Registry::default();
    registry.register_collector(Box::new(metrics));
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text
}

/// A line without its values: `name{label,label}`.
fn series(line: &str) -> String {
    let (name, rest) = line.split_once(['{', ' ']).unwrap();
    let Some((labels, _)) = rest.split_once('}') else {
        return name.to_owned();
    };
    let names: Vec<&str> = labels
        .split(',')
        .filter_map(|label| Some(label.split_once('=')?.0))
        .collect();
    format!("{name}{{{}}}", names.join(","))
}

#[test]
fn names_and_labels_are_as_documented() {
    let text = text();
    let mut found: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(series)
        .collect();
    found.sort();
    found.dedup();
    assert_eq!(found, SERIES);
    assert!(
        text.contains("path=\"one_way\",direction=\"out\"} 0"),
        "{text}"
    );
    let readme = include_str!("../../README.md");
    for series in SERIES {
        let name = series.split('{').next().unwrap();
        assert!(
            readme.contains(&format!("`{name}")),
            "{name} is missing in the README"
        );
    }
}
