"""What a store keeps: the ledger, the directories of snapshots, content by digest."""
