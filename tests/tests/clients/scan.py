"""sslyze against port 443 of servers: `scan.py CA NAME...`. Prints as JSON what it finds wrong by profiles of Mozilla's: by name, then by
profile, key and sentence of each finding. `trusted` is the intermediate profile again with the authority CA among the trusted ones."""

import json
import pathlib
import sys

from sslyze import CertificateInfoExtraArgument, Scanner, ScanCommandsExtraArguments, ServerNetworkLocation, ServerScanRequest
from sslyze.mozilla_tls_profile.tls_config_checker import (
    MozillaTlsConfiguration,
    ServerNotCompliantWithTlsConfiguration,
    TlsConfigurationEnum,
    check_server_against_tls_configuration,
)


def findings(result, profile):
    try:
        check_server_against_tls_configuration(result, MozillaTlsConfiguration.get(profile))
    except ServerNotCompliantWithTlsConfiguration as wrong:
        return wrong.issues
    return {}


def results(names, **more):
    scanner = Scanner()
    scanner.queue_scans([ServerScanRequest(ServerNetworkLocation(name, 443), **more) for name in names])
    return {result.server_location.hostname: result for result in scanner.get_results()}


def main(authority, names):
    trusting = ScanCommandsExtraArguments(certificate_info=CertificateInfoExtraArgument(pathlib.Path(authority)))
    plain, trusted = results(names), results(names, scan_commands_extra_arguments=trusting)
    found = {
        name: {
            "intermediate": findings(plain[name], TlsConfigurationEnum.MOZILLA_INTERMEDIATE),
            "modern": findings(plain[name], TlsConfigurationEnum.MOZILLA_MODERN),
            "trusted": findings(trusted[name], TlsConfigurationEnum.MOZILLA_INTERMEDIATE),
        }
        for name in names
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
