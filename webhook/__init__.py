"""Conversion Guard, an admission webhook for Forklift conversion migrations: the package map.

Upper lines import lower ones, never the reverse.

__main__   python -m webhook
cli        the commands: arguments, output, exit codes
runtime    a running guard put together and kept running: settings, certificates, what is followed
audit      keeps watching what is on the cluster, and tells in reports and Events
server     admission over HTTPS: the ASGI app, the AdmissionReview codec, health, limits; the only
           importer of uvicorn
api        the vendors' REST API: tokens, rights, problem details, OpenAPI; the readiness board
tls        the serving certificate and the path that is called, kept right; the only importer of
           cryptography
vsphere    a live vCenter; the only importer of pyVmomi and of SOAP
cluster    Providers, Secrets, PVCs, Plans; the only importer of the kubernetes client
manifests  manifest files: read with their lines, and a VM's own written
engine     from a review to its verdict: gather facts once, run pure rules, answer once
rules      RULES and DEFAULTS, a file each
facts      what rules see and find; the proof of a whole disk set
inventory  what is known of vSphere and of the cluster, its age, fresh reads, snapshot files
settings   file and environment -> frozen Settings
model      the keys, what vSphere and Kubernetes say, reviews and verdicts, the paths called
quantity   Kubernetes quantities
metrics    the only importer of prometheus_client
logs       for a person, or as JSON
bucket     so many permits a second
shared     one answer for all who ask the same meanwhile
errors     the exception tree
"""

__version__ = "0.1.0"
