"""Claims about regions: made in float64, saved as files, and checked again by other code."""

from suture.certify.accuracy import (
    Certification,
    MixtureCertification,
    certify_images,
    certify_mixture,
)
from suture.certify.branching import Branching, Cases, prove_by_cases
from suture.certify.certificate import Certificate, files_in, load_certificate, save_all
from suture.certify.checking import Checker, CheckResult
from suture.certify.export import export
from suture.certify.keeping import broken, unknown_centres
from suture.certify.promise import Promise, load_promise
from suture.certify.proving import certify_box, network64, prove

__all__ = [
    "Branching",
    "Cases",
    "Certificate",
    "Certification",
    "CheckResult",
    "Checker",
    "MixtureCertification",
    "Promise",
    "broken",
    "certify_box",
    "certify_images",
    "certify_mixture",
    "export",
    "files_in",
    "load_certificate",
    "load_promise",
    "network64",
    "prove",
    "prove_by_cases",
    "save_all",
    "unknown_centres",
]
