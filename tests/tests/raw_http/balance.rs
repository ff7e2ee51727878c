//! Which server a request goes to, and which request is one too many: the same arithmetic at edge and at nginx.
//!
//! nginx's own locations are the servers of both, so that each answer names the one that gave it.

/// The weights of the servers; server N listens on port 9091 + N.
const WEIGHTS: [u16; 3] = [5, 1, 1];
/// Hosts, each with nginx's way to choose and edge's.
const METHODS: [(&str, &str, &str); 4] = [
    ("turns.example", "", "round_robin"),
    ("addresses.example", "ip_hash;", "ip_hash"),
    (
        "keys.example",
        "hash $request_uri consistent;",
        "{ hash = \"$request_uri\" }",
    ),
    ("limited.example", "", "round_robin"),
];
/// Requests that may come early at `limited.example`; the rate is too slow to matter during the test.
pub(crate) const BURST: usize = 5;

/// edge's upstreams, limit and sites.
pub(crate) fn platform() -> String {
    let servers: Vec<String> = WEIGHTS
        .iter()
        .zip(9091..)
        .map(|(weight, port)| format!("{{ address = \"10.0.0.11:{port}\", weight = {weight} }}"))
        .collect();
    let servers = servers.join(", ");
    let mut text = format!(
        "[limit.slow]\nkey = \"$http_x_key\"\nrate = \"1/m\"\nburst = {BURST}\nstatus = 503\n"
    );
    for (host, _, method) in METHODS {
        let name = upstream(host);
        let method = match method.starts_with('{') {
            true => method.to_owned(),
            false => format!("\"{method}\""),
        };
        let limits = match host {
            "limited.example" => "limits = [\"slow\"]\n",
            _ => "",
        };
        text += &format!(
            "[upstream.{name}]\nbalance = {method}\nservers = [{servers}]\n[[site]]\nhosts = [\"{host}\"]\n{limits}[[site.route]]\npath = \"/\"\nupstream = \"{name}\"\n"
        );
    }
    text
}

/// nginx's, and the servers.
pub(crate) fn configuration() -> String {
    let mut text = "limit_req_zone $http_x_key zone=slow:1m rate=1r/m;\nset_real_ip_from 10.0.0.11;\nreal_ip_header X-Forwarded-For;\n".to_owned();
    let mut servers = String::new();
    for (weight, port) in WEIGHTS.iter().zip(9091..) {
        servers += &format!("server 10.0.0.11:{port} weight={weight};\n");
        text += &format!(
            "server {{\nlisten 10.0.0.11:{port};\nlocation / {{ return 200 \"{port}\"; }}\n}}\n"
        );
    }
    for (host, method, _) in METHODS {
        let name = upstream(host);
        let limit = match host {
            "limited.example" => format!("limit_req zone=slow burst={BURST} nodelay;\n"),
            _ => String::new(),
        };
        text += &format!(
            "upstream {name} {{\n{method}\n{servers}}}\nserver {{\nlisten 10.0.0.11:81;\nserver_name {host};\nlocation / {{\n{limit}proxy_pass http://{name};\n}}\n}}\n"
        );
    }
    text
}

fn upstream(host: &str) -> &str {
    host.split('.').next().unwrap_or(host)
}
