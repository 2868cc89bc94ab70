"""Claims about regions: made in float64, saved as files, and checked again by other code."""

from suture.certify.accuracy import Certification, certify_images
from suture.certify.certificate import Certificate, files_in, load_certificate, save_all
from suture.certify.checking import Checker, Verdict
from suture.certify.export import export
from suture.certify.proving import certify_box, network64, prove

__all__ = [
    "Certificate",
    "Certification",
    "Checker",
    "Verdict",
    "certify_box",
    "certify_images",
    "export",
    "files_in",
    "load_certificate",
    "network64",
    "prove",
    "save_all",
]
