//! Lists of a virtual service on a kernel that may lack what enforces them, as User-mode Linux does: the service goes on, and the director says
//! so. Needs ip_vs.

use std::time::Duration;

use tests::farm::{Farm, Server, client, tcp, virtual_address};
use tests::{nft, wait};

#[test]
fn lists_that_cannot_be_enforced_take_no_service_away() {
    let mut farm = Farm::new(1);
    farm.vips_on_lo();
    let _servers = Server::everywhere(&farm, &[80]);
    farm.direct(&format!(
        "[virtual_service.web]\nvips = [\"web\"]\nports = [80]\nforward = \"dr\"\nreal_servers = [{{ group = \"servers\" }}]\n\
         check = {{ kind = \"tcp\" }}\ndeny = [\"{}/32\"]\n",
        client(true, 9)
    ));
    let enforces = nft::works(farm.node("lb1"));
    let status = farm.director().status();
    assert_eq!(
        status["access"]["services"][0]["enforced"], enforces,
        "{status:#}"
    );
    let warned = |text: &str| {
        let warnings = status["warnings"].as_array().cloned().unwrap_or_default();
        warnings
            .iter()
            .any(|warning| warning.as_str().unwrap_or_default().contains(text))
    };
    assert_eq!(
        warned("lists and limits of web are not enforced, everybody is let in"),
        !enforces,
        "{status:#}"
    );
    assert_eq!(warned("nf_tables"), !enforces, "the remedy: {status:#}");
    assert_eq!(status["vips"][0]["state"], "ready");

    let to = virtual_address(true, 80);
    let inside = farm.node("client");
    wait::until("an answer", Duration::from_secs(10), || {
        inside.run(|| tcp(client(true, 2), to)).is_ok()
    });
    assert_eq!(inside.run(|| tcp(client(true, 9), to)).is_ok(), !enforces);
}
