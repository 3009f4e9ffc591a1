{
  "algorithm": "ed25519",
  "public_key": "NpO0nxOMQDTxcV3iKLc7e/A/1y2UOR5ytI4M4Ji8mbA=",
  "signature": "OV9DM3wdECuXJvOoppRqB/XuutfOzyJcYScq1CSbruY0EejKzvZQ19YSZK/jKByYd+ignV1b1Qaf0bXNR1YyCw=="
}
