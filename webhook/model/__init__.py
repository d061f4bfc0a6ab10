"""The keys, and the frozen values that everything speaks of; the AdmissionReview codec."""
