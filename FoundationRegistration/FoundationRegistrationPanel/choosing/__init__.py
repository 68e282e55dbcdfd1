"""What is chosen before a run: task, images, masks, what moves along, settings; and the headers that sum it up."""
