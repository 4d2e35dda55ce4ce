"""The key in a TPM 2.0: TPM2_* calls through tpm2-tss, and the five commands of the signing path in our own bytes."""
