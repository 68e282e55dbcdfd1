"""Texts of the panel: facts about choices, messages of the engine, results in words. No widgets."""
