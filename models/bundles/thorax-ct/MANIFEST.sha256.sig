{
  "algorithm": "ed25519",
  "public_key": "NpO0nxOMQDTxcV3iKLc7e/A/1y2UOR5ytI4M4Ji8mbA=",
  "signature": "Xd2ZKZSGb9MZThtEeb+Tn0x06LG7ESFbNt2E+nTYk3eQEsRXH9JyGmpfIzSP90xnToLcXyZhRx0vngiLveTxBw=="
}
